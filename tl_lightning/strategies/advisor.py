"""The choice between strategies: data-set size against likeness to the source."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tl_lightning import checks
from tl_lightning.strategies.plan import Facts, FineTuning, Strategy

if TYPE_CHECKING:
    from tl_lightning.transferability.evidence import Evidence

log = logging.getLogger(__name__)

_CO_TUNING_IMAGES = 50  # per class
_CO_TUNING = "regularizer=co_tuning: few images per class, and weights that came with their own classifier"


@dataclass(frozen=True)
class Advice:
    """A strategy to follow, why in three lines, and what else is worth trying."""

    strategy: Strategy
    reasons: tuple[str, str, str]
    proposal: str | None = None

    @property
    def lines(self) -> list[str]:
        """All of it for people."""
        return [*self.reasons, *([f"try       {self.proposal}"] if self.proposal else [])]

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Auto(Strategy):
    """Answers the strategy that the table of size and likeness holds for this data set.

    `few`: a data set with fewer images in its median class is small. `alike`: it is like the source where the last
    stage tells the classes apart better than any earlier one by so much (see Evidence.lead). Weights that know no
    photographs have nothing that a photograph could be like: `unlike_any`. Of language models no last layer leads: size
    alone decides. `trial_seconds` above 0: the strategies for alike and for different data of this size are
    both tried for so long, and the better one is taken.
    """

    few: float
    alike: float
    small_alike: Strategy
    large_alike: Strategy
    small_different: Strategy
    large_different: Strategy
    unlike_any: Strategy
    small_texts: Strategy
    large_texts: Strategy
    trial_seconds: float = 0.0

    def __post_init__(self) -> None:
        checks.number("strategy.few", self.few, 0)
        checks.number("strategy.alike", self.alike, -1, 1)
        checks.number("strategy.trial_seconds", self.trial_seconds, 0)

    def given(self, facts: Facts) -> Strategy:
        """The advised strategy, ready to be followed; the reasons are logged."""
        advice = self.advise(facts)
        for line in advice.lines:
            log.info(f"advice    {line}")
        return advice.strategy

    def advise(self, facts: Facts) -> Advice:
        """The strategy, its open values filled in, and why."""
        noun = facts.noun
        if not facts.small_rates:
            known = "drawn images" if facts.pretrained else "nothing"
            size = f"{facts.train_samples} {noun} of {facts.outputs} classes"
            return self._answer(self.unlike_any, size, f"the weights know {known}, which none of them is like", facts)
        evidence = facts.measured()
        small, alike = evidence.per_class < self.few, evidence.lead > self.alike
        bound = "fewer than" if small else "no fewer than"
        size = f"{evidence.per_class:g} {noun} per class, {bound} {self.few:g}"
        if facts.all_layers:
            chosen = self.small_texts if small else self.large_texts
            return self._answer(chosen, size, f"{_accuracies(evidence)} in turn; no last layer is the best", facts)
        for_alike = self.small_alike if small else self.large_alike
        for_different = self.small_different if small else self.large_different
        chosen, how = for_alike if alike else for_different, ""
        if self.trial_seconds and facts.attempt and for_alike != for_different:
            near = facts.attempt(for_alike.given(facts), self.trial_seconds)
            far = facts.attempt(for_different.given(facts), self.trial_seconds)
            if near != far:
                chosen = for_alike if near > far else for_different
            how = f", by trials on held-out training {noun}: {near:.3f} (alike), {far:.3f} (different)"
        advice = self._answer(chosen, size, _compared(evidence, self.alike), facts, how)
        few = evidence.per_class <= _CO_TUNING_IMAGES and evidence.likeness is not None
        return replace(advice, proposal=_CO_TUNING) if few and isinstance(advice.strategy, FineTuning) else advice

    def _answer(self, strategy: Strategy, size: str, likeness: str, facts: Facts, how: str = "") -> Advice:
        followed = strategy.given(facts)
        return Advice(followed, (f"size      {size}", f"likeness  {likeness}", f"follow    {followed}{how}"))


def _compared(evidence: Evidence, bound: float) -> str:
    verdict = f"above {bound:g}: alike" if evidence.lead > bound else f"not above {bound:g}: different"
    return f"{_accuracies(evidence)} in turn; a lead of {evidence.lead:+.3f}, {verdict}"


def _accuracies(evidence: Evidence) -> str:
    both = " against ".join(f"{t.mean_accuracy:.3f} of {t.name}" for t in (evidence.last, evidence.best_early))
    return f"{both}, in accuracy on samples left out"
