"""Options of loading that images and texts share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tl_lightning import checks


@dataclass(frozen=True)
class Loading:
    """Batches of `batch_size` training samples.

    `sampler`: "none" or "balanced". `class_weights` of the training loss: "none", "auto", or by name. `seed` draws
    the order, and what is random in a sample.
    """

    batch_size: int = 32
    sampler: str = "none"
    class_weights: str | Mapping[Any, float] | None = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        checks.whole("data.batch_size", self.batch_size, 1)
        checks.one_of("data.sampler", self.sampler, ("none", "balanced"))
        checks.whole("data.seed", self.seed, 0)


def among(options: Mapping[str, Any], *kinds: type) -> list[Any]:
    """One object of every kind (a dataclass), each of those options that are its own; others are passed over."""
    return [kind(**{f.name: options[f.name] for f in fields(kind) if f.name in options}) for kind in kinds]


def grouped(options: Mapping[str, Any], *kinds: type) -> list[Any]:
    """One object of every kind (a dataclass), each of those options that are its own.

    Raises TypeError for an option that belongs to none.
    """
    known = {f.name for kind in kinds for f in fields(kind)}
    if strange := options.keys() - known:
        raise TypeError(f"unexpected option '{min(strange)}'")
    return among(options, *kinds)
