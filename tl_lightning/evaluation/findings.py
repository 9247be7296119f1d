"""What an evaluation has found, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """A number and its 95 % interval, where there is one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> str:
        """The interval for people; nothing if there is none."""
        return "" if self.low is None or self.high is None else f"{self.low:.4f} to {self.high:.4f}"


@dataclass(frozen=True)
class Findings:
    """Of N samples: `scores`, and `tables` by their title, each a sequence of rows with the same columns.

    `mistakes`: places of samples that were answered wrongly, the worst first; `typical`: of those that were surest and
    right, one for each class. `confusion` (C, C): rows true, columns answered.
    """

    scores: Sequence[Score]
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    mistakes: Sequence[int] = ()
    typical: Sequence[int] = ()
    confusion: Sequence[Sequence[int]] | None = None
