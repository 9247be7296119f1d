"""What watches and steers the learner from outside."""

from tl_lightning import lazy

__getattr__ = lazy.exports(
    __name__,
    {
        **dict.fromkeys(("BestCheckpoint", "LastCheckpoint"), "checkpoints"),
        "Forgetting": "forgetting",
        **dict.fromkeys(("PhasedEarlyStopping", "Phases"), "phases"),
        "PowerAverage": "averaging",
        **dict.fromkeys(("Pruning", "StopAfter"), "steering"),
    },
)
