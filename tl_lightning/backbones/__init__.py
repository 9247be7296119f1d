"""What is transferred: networks as ordered, named stages. Called, it lists the options of `backbone=`."""

import sys
from types import ModuleType

from tl_lightning import lazy
from tl_lightning.options import options

__all__ = ["Backbone", "Library", "Source", "Stage", "from_module", "timm", "torchvision", "transformers"]

__getattr__ = lazy.exports(
    __name__,
    {
        **dict.fromkeys(("Backbone", "Stage"), "backbone"),
        **dict.fromkeys(("Library", "Source"), "library"),
        "from_module": "from_any_module",
        "timm": "from_timm",
        "torchvision": "from_torchvision.networks",
        "transformers": "from_transformers",
    },
)


class _Room(ModuleType):
    def __call__(self) -> list[str]:
        """The options of `backbone=`: `tl_lightning.backbones()`."""
        return options("backbone")


sys.modules[__name__].__class__ = _Room
