"""Samples without labels, in batches, for a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tl_lightning.batch import Inputs


@dataclass(frozen=True)
class Incoming:
    """A batch of samples that could be read, at `places` of what was asked for, and why others could not, by place."""

    places: Sequence[int]
    inputs: Inputs | None
    errors: Mapping[int, str] = field(default_factory=dict)
