"""Backbones side by side on a data set: one pass each, nothing trained."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from tl_lightning import machine
from tl_lightning.errors import UserError
from tl_lightning.runs import cli
from tl_lightning.runs.advise import composed

_COLUMNS = (
    "backbone", "leave-one-out", "95 % interval", "LogME", "H-score", "parameters", "images/s", "MB an image", "best",
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

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy (Wilson's score interval)."""
        n, p, z = self.images, self.accuracy, 1.959964
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def rank() -> None:
    """`python scripts/rank.py data.root=... backbones=[a,b] [out=rank.png]`: prints a table, draws the Pareto front."""
    machine.set_threads()
    cli.register_resolvers()
    with cli.one_line_errors():
        own = {"backbones": "", "out": "rank.png"}
        words = []
        for word in sys.argv[1:]:
            name, equals, value = word.partition("=")
            if name in own and equals:
                own[name] = value
            else:
                words.append(word)
        names = [n.strip() for n in own["backbones"].strip("[]").split(",") if n.strip()]
        if not names:
            raise UserError(f"backbones=[a,b] must name some of {', '.join(cli.choices('backbone'))}")
        _rank(names, cli.arguments(words), Path(own["out"]))


def _rank(names: list[str], words: list[str], out: Path) -> None:
    from tl_lightning.reports.advice import pareto, pareto_figure
    from tl_lightning.runs.tables import markdown
    from tl_lightning.runs.train import quiet

    quiet()
    found, absent = [], {}
    for name in names:
        cfg = composed([*words, f"backbone={name}"])
        if missing := _missing(cfg):
            absent[name] = missing
        else:
            found.append(measured(name, cfg))
            print(f"{name}: {found[-1].accuracy:.3f}", file=sys.stderr)
    found.sort(key=lambda r: -r.accuracy)
    front = pareto([(r.speed, r.accuracy) for r in found])
    rows = [[f"`{r.name}`", f"{r.accuracy:.3f}", "{:.3f}-{:.3f}".format(*r.interval), f"{r.logme:.3f}",
             f"{r.h_score:.3f}", f"{r.parameters / 1e6:.1f}M", f"{r.speed:.0f}", f"{r.megabytes:.0f}",
             "yes" if best else ""] for r, best in zip(found, front, strict=True)]  # fmt: skip
    print(markdown(_COLUMNS, rows))
    for name, why in absent.items():
        print(f"{name}: not ranked, {why}")
    if found:
        pareto_figure([(r.name, r.speed, r.accuracy, r.interval) for r in found]).savefig(out)
        print(f"accuracy against speed: {out}; best: none is both faster and more accurate")


def _missing(cfg: DictConfig) -> str:
    from tl_lightning.backbones import weights

    if cfg.backbone.weights is None:
        return "random weights know nothing: name some with backbone.weights"
    entry, path = weights.find(cfg.backbone.name, cfg.backbone.weights)
    return "" if weights.at_hand(entry, path) else f"its weights {entry} are not on this machine ({entry.url})"


def measured(name: str, cfg: DictConfig) -> Rank:
    """One backbone's facts."""
    from tl_lightning.features.facts import activation_bytes, pace
    from tl_lightning.runs.build import gather

    backbone, _, facts = gather(cfg)
    evidence = facts.measured()
    last = evidence.last
    parameters = sum(p.numel() for p in backbone.parameters())
    size = activation_bytes(backbone) / 1e6
    return Rank(name, last.accuracy, evidence.images, last.logme, last.h_score, parameters, pace(backbone), size)
