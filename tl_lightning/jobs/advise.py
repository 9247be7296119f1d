"""Advice without training: what is known of a data set and a backbone after one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tl_lightning.build import gather, made
from tl_lightning.config.settings import Settings
from tl_lightning.errors import UserError
from tl_lightning.files import atomically
from tl_lightning.jobs.announce import named, weights_of
from tl_lightning.jobs.fit import quiet
from tl_lightning.reports.advice import taps_figure
from tl_lightning.reports.markdown import markdown
from tl_lightning.runs.folder import RunFolder
from tl_lightning.strategies.advisor import Advice, Auto
from tl_lightning.transferability.evidence import Evidence

_SCALES = (
    "left out: accuracy of ridge regression on samples left out; nearest: of the nearest neighbour; 0 to 1, higher is",
    "better. LogME: log evidence a sample, without bound; H-score: between 0 and the number of classes less one; both",
    "compare stages of one backbone on one data set alone. BatchNorm drift: in nats, 0 where statistics fit the data.",
)
_COLUMNS = ("stage", "features", "left out", "nearest", "LogME", "H-score", "BatchNorm drift")


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
        yield from _SCALES
        if like := evidence.likeness:
            yield f"source    LEEP {like.leep:.3f}, NCE {like.nce:.3f}, entropy {like.entropy:.2f} of what it could be"
            for name, similar in like.similar.items():
                yield f"          {name}: " + ", ".join(f"{s} {p:.2f}" for s, p in similar)
    yield from advice.lines


def write(folder: Path, settings: Settings, said: Sequence[str], evidence: Evidence | None) -> Path:
    """Keep the advice in a folder, as text, numbers and a picture, under the backbone's name; gives the text's file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{named(settings.backbone).replace('/', '_')}.md"
    atomically(file, lambda draft: draft.write_text("\n".join(said) + "\n", encoding="utf-8"))
    if evidence:
        RunFolder(folder).write_json(file.with_suffix(".json"), asdict(evidence))
        taps_figure(evidence).savefig(file.with_suffix(".png"))
    return file
