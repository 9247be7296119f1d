"""What is asked of a network: targets, loss, scores, and what its outputs mean."""

from tl_lightning import lazy

__getattr__ = lazy.exports(
    __name__,
    {
        **dict.fromkeys(("Labels", "Task"), "task"),
        **dict.fromkeys(("Classification", "classification"), "classes"),
        **dict.fromkeys(("Multilabel", "multilabel"), "multilabels"),
        **dict.fromkeys(("Regression", "regression"), "values"),
        "infer": "inferred",
    },
)
