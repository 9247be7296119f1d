"""What each class counts in the training loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import yaml
from torch import Tensor

from tl_lightning.errors import UserError, nearest

_MOST = 100.0  # that one sample counts against another: of a handful more would be noise alone


def loss_weights(choice: Any, classes: Sequence[str], counts: Tensor) -> Tensor | None:
    """Weights (C,) of mean 1 over training samples: "none" (None), "auto" (inverse frequency), or by class name.

    Raises UserError for a class that there is not, and for weights that are no positive numbers.
    """
    if choice in ("none", None):
        return None
    weights = 1 / counts if choice == "auto" else _by_name(choice, classes)
    return weights * counts.sum() / (weights * counts).sum()


def positive_weights(choice: Any, classes: Sequence[str], odds: Tensor) -> Tensor | None:
    """What the samples of each class count (C,) against 1 of all others, of classes that are questions by themselves.

    "none" (None), "auto" (the inverse of their `odds` (C,), at most 100), or by class name. Raises UserError as
    `loss_weights` does.
    """
    if choice in ("none", None):
        return None
    return (1 / odds).clamp(max=_MOST) if choice == "auto" else _by_name(choice, classes)


def _by_name(choice: Any, classes: Sequence[str]) -> Tensor:
    if isinstance(choice, str):
        raise UserError(f"data.class_weights={choice} is unknown: use none, auto or {{class: weight}}")
    named = {_class_of(name, classes): _number(name, weight) for name, weight in (choice or {}).items()}
    if unknown := [name for name in named if name not in classes]:
        raise UserError(f"data.class_weights names the class '{unknown[0]}': {nearest(unknown[0], classes)}")
    weights = torch.tensor([named.get(c, 1.0) for c in classes])
    if not (weights.min() > 0 and torch.isfinite(weights).all()):
        raise UserError("data.class_weights must be positive numbers")
    return weights


def _class_of(key: Any, classes: Sequence[str]) -> str:
    """The class that a key means: YAML reads no, 01 and null as something else than their letters."""
    if str(key) in classes or isinstance(key, str):
        return str(key)
    read_so = [name for name in classes if type(read := yaml.safe_load(name)) is type(key) and read == key]
    return read_so[0] if len(read_so) == 1 else str(key)


def _number(name: Any, weight: Any) -> float:
    try:
        return float(weight)
    except (TypeError, ValueError) as error:
        raise UserError(f"data.class_weights must be positive numbers: {name} has {weight}") from error
