"""Advice without training: what is known of a data set and a backbone after one pass."""

from __future__ import annotations

from collections.abc import Iterator

from tl_lightning.build import gather, made
from tl_lightning.config.settings import Settings
from tl_lightning.errors import UserError
from tl_lightning.jobs.announce import named, weights_of
from tl_lightning.jobs.fit import quiet
from tl_lightning.reports.markdown import markdown
from tl_lightning.strategies.advisor import Advice, Auto
from tl_lightning.transferability.evidence import Evidence

_COLUMNS = ("stage", "features", "leave-one-out", "nearest", "LogME", "H-score", "BatchNorm drift")


def advise(settings: Settings) -> tuple[Advice, Evidence | None]:
    """The strategy for a data set and a backbone, and what the advice rests on, if anything was measured.

    Raises UserError for bad input.
    """
    quiet()
    _, _, facts = gather(settings)
    auto = made(settings, "strategy")
    if not isinstance(auto, Auto):
        raise UserError("advice is given by strategy=auto: leave the strategy out")
    return auto.advise(facts), facts.evidence


def lines(settings: Settings, advice: Advice, evidence: Evidence | None) -> Iterator[str]:
    """The advice for people."""
    yield f"backbone  {named(settings.backbone)}, weights {weights_of(settings.backbone)}"
    if evidence:
        drift = {stage: f"{value:.2f}" for stage, value in evidence.drift.items()}
        numbers = {t.name: (t.accuracy, t.nearest, t.logme, t.h_score) for t in evidence.taps}
        rows = [[t.name, str(t.width), *(f"{v:.3f}" for v in numbers[t.name]), drift.get(t.name, "")]
                for t in evidence.taps]  # fmt: skip
        yield markdown(_COLUMNS, rows)
        if like := evidence.likeness:
            yield f"source    LEEP {like.leep:.3f}, NCE {like.nce:.3f}, entropy {like.entropy:.2f} of what it could be"
            for name, similar in like.similar.items():
                yield f"          {name}: " + ", ".join(f"{s} {p:.2f}" for s, p in similar)
    yield from advice.lines
