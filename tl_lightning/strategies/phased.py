"""Strategies of several phases: what learns grows as the head settles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tl_lightning.strategies.plan import FineTuning, Phase, Plan


@dataclass(frozen=True)
class GradualUnfreeze(FineTuning):
    """The head first, then one more stage from the top every `every` epochs (ULMFiT, arXiv:1801.06146)."""

    every: int = 1

    def plan(self, stages: Sequence[str]) -> Plan:
        """One phase per stage and one before them; the last takes the rest of the run."""
        speeds = [self.speeds(stages, learning) for learning in range(len(stages) + 1)]
        phases = [Phase(self.every, s) for s in speeds[:-1]]
        return Plan(tuple(stages), (*phases, Phase(None, speeds[-1])), self.norm or "eval")


@dataclass(frozen=True)
class LpFt(FineTuning):
    """The head alone for `head_epochs`, then everything (LP-FT, arXiv:2202.10054)."""

    head_epochs: int = 3

    def plan(self, stages: Sequence[str]) -> Plan:
        """Two phases: linear probing, then fine-tuning from a head that no longer distorts the features."""
        probe = Phase(self.head_epochs, self.speeds(stages, 0))
        return Plan(tuple(stages), (probe, Phase(None, self.speeds(stages, len(stages)))), self.norm or "eval")
