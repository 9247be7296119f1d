"""Lets torchvision be imported beside a torch that cannot load torchvision's compiled operators.

PyPI's torchvision is linked against CUDA. Beside a CPU build of torch its library does not load, and
`import torchvision` then dies with "operator torchvision::nms does not exist", because two operators are
given fake implementations without having been defined. lightning and torchmetrics import torchvision by
themselves, so the remedy has to come before any of the three: a finder that runs when "torchvision" is first
imported. Where the operators load it changes nothing. Models, transforms and data sets work without them;
`torchvision.ops.nms` and the detection models do not.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_SCHEMA = "{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[Any] = []  # a torch.library.Library takes its definitions along when it is collected


class _BeforeTorchvision:
    """Defines missing operators at the first import of torchvision, then steps aside."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            define_missing_operators()
        return None


def install() -> None:
    """Arrange for `define_missing_operators` to run before torchvision is imported; imports nothing itself."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _BeforeTorchvision) for f in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())


def define_missing_operators() -> bool:
    """Define `torchvision::nms` and `qnms` if the compiled ones do not load; True where something was defined."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    folder = Path(spec.origin).parent
    for library in sorted(p for p in folder.glob("_C*") if p.suffix in {".so", ".pyd", ".dylib"}):
        try:
            torch.ops.load_library(str(library))
            return False
        except OSError:
            continue
    missing = [name for name in ("nms", "qnms") if not hasattr(torch.ops.torchvision, name)]
    library_fragment = torch.library.Library("torchvision", "FRAGMENT")
    for name in missing:
        library_fragment.define(_SCHEMA.format(name=name))
    _kept.append(library_fragment)
    return bool(missing)
