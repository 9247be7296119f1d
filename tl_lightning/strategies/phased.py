"""Strategies of several phases: what learns grows as the head settles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tl_lightning import checks
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.taps import read_all_stages
from tl_lightning.errors import UserError
from tl_lightning.strategies.plan import Facts, FineTuning, Phase, Plan, Strategy


@dataclass(frozen=True)
class GradualUnfreeze(FineTuning):
    """The head first, then one more stage from the top every `every` epochs (ULMFiT, arXiv:1801.06146)."""

    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("strategy.every", self.every, 1)

    def plan(self, stages: Sequence[str]) -> Plan:
        """One phase per stage and one before them; the last takes the rest of the run."""
        speeds = [self.speeds(stages, learning) for learning in range(len(stages) + 1)]
        phases = [Phase(self.every, s) for s in speeds[:-1]]
        return Plan(tuple(stages), (*phases, Phase(None, speeds[-1])), self.norm or "eval")


@dataclass(frozen=True)
class LpFt(FineTuning):
    """The head first, then everything (LP-FT, arXiv:2202.10054): a head that fits does not distort the features.

    `head_epochs` 0: the head is solved exactly; more: it alone learns for so long, as a head that is not linear must.
    None is filled in: 0 on pretrained weights, 3 on random ones, whose features change with their first batch.
    `taps`: the head reads the pooled outputs of all stages, not of the last one alone; None: of language models, as
    LinearProbe.
    """

    head_epochs: int | None = None
    taps: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("strategy.head_epochs", self.head_epochs, 0, optional=True)

    def shape(self, backbone: Backbone) -> Backbone:
        """The backbone, its features those of all stages if asked for."""
        return read_all_stages(backbone) if self.taps else backbone

    def given(self, facts: Facts) -> Strategy:
        """Open values filled in. Raises UserError if a head is to be solved on features that will not stay."""
        filled = super().given(facts)
        assert isinstance(filled, LpFt)
        if filled.head_epochs == 0 and not facts.pretrained and filled.norm != "eval":
            raise UserError(
                "strategy.head_epochs=0 on random weights: their BatchNorm statistics change with the first batch, and "
                "with them the features that the head was solved on; take strategy.head_epochs=3 or strategy.norm=eval"
            )
        taps = facts.all_layers if filled.taps is None else filled.taps
        epochs = (0 if facts.pretrained else 3) if filled.head_epochs is None else filled.head_epochs
        return replace(filled, head_epochs=epochs, taps=taps)

    def plan(self, stages: Sequence[str]) -> Plan:
        """One phase from a solved head, or linear probing and then a second phase."""
        everything = Phase(None, self.speeds(stages, len(stages)))
        if not self.head_epochs:
            return Plan(tuple(stages), (everything,), self.norm or "eval", solve=True)
        probe = Phase(self.head_epochs, self.speeds(stages, 0))
        return Plan(tuple(stages), (probe, everything), self.norm or "eval")
