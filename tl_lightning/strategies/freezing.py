"""Strategies of one phase: what is frozen stays frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tl_lightning import checks
from tl_lightning.backbones import low_rank
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.taps import cut_after, read_all_stages
from tl_lightning.errors import UserError
from tl_lightning.strategies.plan import HEAD, Facts, FineTuning, Phase, Plan, Strategy


@dataclass(frozen=True)
class FeatureExtraction(Strategy):
    """Everything frozen, a new head on the last features."""

    def plan(self, stages: Sequence[str]) -> Plan:
        """One phase in which the head alone learns."""
        return Plan(tuple(stages), (Phase(None, dict.fromkeys(stages, 0.0) | {HEAD: 1.0}),))


@dataclass(frozen=True)
class LinearProbe(Strategy):
    """Everything frozen, the best linear head there is: solved exactly, without an epoch.

    `taps`: the head reads the pooled outputs of all stages, not of the last one alone. None is filled in: so it does of
    language models, whose last layer is given to what they were trained for (docs/text.md).
    """

    taps: bool | None = None

    def given(self, facts: Facts) -> Strategy:
        """Open values filled in."""
        return self if self.taps is not None else replace(self, taps=facts.all_layers)

    def shape(self, backbone: Backbone) -> Backbone:
        """The backbone, its features those of all stages if asked for."""
        return read_all_stages(backbone) if self.taps else backbone

    def plan(self, stages: Sequence[str]) -> Plan:
        """No phase."""
        return Plan(tuple(stages), (), solve=True)


@dataclass(frozen=True)
class EarlyFeatures(FeatureExtraction):
    """Everything frozen, a new head on the pooled outputs of all stages up to `upto`; later stages are cut off."""

    upto: str | None = None

    def shape(self, backbone: Backbone) -> Backbone:
        """The backbone cut after `upto`, by default after the last but one stage.

        Raises UserError if there is no such stage.
        """
        return cut_after(backbone, self.upto or backbone.stage_names[-2])


@dataclass(frozen=True)
class FinetuneTop(FineTuning):
    """The last `stages` stages and the head learn."""

    stages: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("strategy.stages", self.stages, 1)

    def plan(self, stages: Sequence[str]) -> Plan:
        """One phase. Raises UserError if there are fewer stages than asked for."""
        if self.stages > len(stages):
            raise UserError(
                f"strategy.stages={self.stages}: this backbone has {len(stages)} stages ({', '.join(stages)})"
            )
        return Plan(tuple(stages), (Phase(None, self.speeds(stages, self.stages)),), self.norm or "eval")


@dataclass(frozen=True)
class FinetuneAll(FineTuning):
    """Every stage learns, the lower the slower.

    `taps`: the head reads the pooled outputs of all stages, not of the last one alone. `parameters`: "all" of a
    stage learn, or those of its "norm" layers alone (arXiv:2003.00152), or its "bias"es (BitFit, arXiv:2106.10199).
    """

    taps: bool = False
    parameters: str = "all"

    def shape(self, backbone: Backbone) -> Backbone:
        """The backbone, its features those of all stages if asked for."""
        return read_all_stages(backbone) if self.taps else backbone

    def plan(self, stages: Sequence[str]) -> Plan:
        """One phase with discriminative rates (ULMFiT, arXiv:1801.06146)."""
        phase = Phase(None, self.speeds(stages, len(stages)))
        return Plan(tuple(stages), (phase,), self.norm or "eval", parameters=self.parameters)


@dataclass(frozen=True)
class Lora(FineTuning):
    """Every matrix of every stage gets an update of rank `rank`, scaled by `alpha` / rank, which alone learns.

    LoRA (arXiv:2106.09685); the model that is written has the updates merged.
    """

    rank: int = 8
    alpha: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("strategy.rank", self.rank, 1)
        checks.number("strategy.alpha", self.alpha, 0)

    def shape(self, backbone: Backbone) -> Backbone:
        """The backbone with the updates inserted. Raises UserError if there is no matrix."""
        if not low_rank.insert(backbone.net, self.rank, self.alpha):
            raise UserError(
                f"strategy=lora: {type(backbone.net).__name__} has no linear layer, attention or 1 x 1 convolution to "
                "update; take strategy=norm_only or strategy=finetune_top"
            )
        return backbone

    def plan(self, stages: Sequence[str]) -> Plan:
        """One phase."""
        phase = Phase(None, self.speeds(stages, len(stages)))
        return Plan(tuple(stages), (phase,), self.norm or "eval", parameters="lora")
