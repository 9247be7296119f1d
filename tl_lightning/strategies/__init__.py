"""What learns: names and numbers. Called, it lists the options of `strategy=`."""

import sys
from types import ModuleType

from tl_lightning import lazy
from tl_lightning.options import options

__getattr__ = lazy.exports(
    __name__,
    {
        **dict.fromkeys(("Advice", "Auto"), "advisor"),
        **dict.fromkeys(
            ("EarlyFeatures", "FeatureExtraction", "FinetuneAll", "FinetuneTop", "LinearProbe", "Lora"), "freezing"
        ),
        **dict.fromkeys(("GradualUnfreeze", "LpFt"), "phased"),
        **dict.fromkeys(("HEAD", "Facts", "FineTuning", "Phase", "Plan", "Strategy"), "plan"),
    },
)


class _Room(ModuleType):
    def __call__(self) -> list[str]:
        """The options of `strategy=`: `tl_lightning.strategies()`."""
        return options("strategy")


sys.modules[__name__].__class__ = _Room
