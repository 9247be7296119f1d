"""Strategies of one phase: what is frozen stays frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tl_lightning.backbones.backbone import Backbone
from tl_lightning.errors import UserError
from tl_lightning.strategies.plan import HEAD, FineTuning, Phase, Plan, Strategy


@dataclass(frozen=True)
class FeatureExtraction(Strategy):
    """Everything frozen, a new head on the last features."""

    def plan(self, stages: Sequence[str]) -> Plan:
        """One phase in which the head alone learns."""
        return Plan(tuple(stages), (Phase(None, dict.fromkeys(stages, 0.0) | {HEAD: 1.0}),))


@dataclass(frozen=True)
class LinearProbe(Strategy):
    """Everything frozen, the best linear head there is: solved exactly, without an epoch."""

    def plan(self, stages: Sequence[str]) -> Plan:
        """No phase."""
        return Plan(tuple(stages), (), solve=True)


@dataclass(frozen=True)
class EarlyFeatures(FeatureExtraction):
    """Everything frozen, a new head on the pooled outputs of all stages up to `upto`; later stages are cut off."""

    upto: str | None = None

    def shape(self, backbone: Backbone) -> Backbone:
        """The backbone cut after `upto`, by default after the last but one stage."""
        return backbone.cut(self.upto or backbone.stage_names[-2])


@dataclass(frozen=True)
class FinetuneTop(FineTuning):
    """The last `stages` stages and the head learn."""

    stages: int = 1

    def plan(self, stages: Sequence[str]) -> Plan:
        """One phase; UserError if there are fewer stages than asked for."""
        if not 1 <= self.stages <= len(stages):
            raise UserError(
                f"strategy.stages={self.stages}: this backbone has {len(stages)} stages ({', '.join(stages)})"
            )
        return Plan(tuple(stages), (Phase(None, self.speeds(stages, self.stages)),), self.norm or "eval")


@dataclass(frozen=True)
class FinetuneAll(FineTuning):
    """Every stage learns, the lower the slower."""

    def plan(self, stages: Sequence[str]) -> Plan:
        """One phase with discriminative rates (ULMFiT, arXiv:1801.06146)."""
        return Plan(tuple(stages), (Phase(None, self.speeds(stages, len(stages))),), self.norm or "eval")
