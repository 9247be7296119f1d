"""Advice without training: what is known of a data set and one or several backbones after one pass."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from tl_lightning import machine
from tl_lightning.runs import cli


def advise() -> None:
    """`python scripts/advise.py data.root=... [backbone=a,b]`: prints why, for every backbone."""
    machine.set_threads()
    cli.register_resolvers()
    with cli.one_line_errors():
        for words in each(cli.arguments(sys.argv[1:]), "backbone"):
            _advise(composed([*words, "strategy=auto"]))


def _advise(cfg: DictConfig) -> None:
    from tl_lightning.runs.build import gather, instantiate
    from tl_lightning.runs.tables import markdown
    from tl_lightning.runs.train import quiet

    quiet()
    logging.getLogger("tl_lightning").setLevel(logging.INFO)
    _, _, facts = gather(cfg)
    advice = instantiate(cfg.strategy).advise(facts)
    print(f"backbone  {cfg.backbone.name}, weights {cfg.backbone.weights}")
    if evidence := facts.evidence:
        drift = {stage: f"{value:.2f}" for stage, value in evidence.drift.items()}
        numbers = {t.name: (t.accuracy, t.nearest, t.logme, t.h_score) for t in evidence.taps}
        rows = [[t.name, str(t.width), *(f"{v:.3f}" for v in numbers[t.name]), drift.get(t.name, "")]
                for t in evidence.taps]  # fmt: skip
        print(markdown(("stage", "features", "leave-one-out", "nearest", "LogME", "H-score", "BatchNorm drift"), rows))
        if like := evidence.likeness:
            print(f"source    LEEP {like.leep:.3f}, NCE {like.nce:.3f}, entropy {like.entropy:.2f} of what it could be")
            for name, similar in like.similar.items():
                print(f"          {name}: " + ", ".join(f"{s} {p:.2f}" for s, p in similar))
    print("\n".join(advice.lines))


def each(words: Sequence[str], group: str) -> Iterator[list[str]]:
    """The words once for every option that they list for a group: backbone=a,b gives two lists."""
    said = next((w for w in words if w.startswith(f"{group}=")), f"{group}=")
    for option in said.partition("=")[2].split(","):
        yield [f"{group}={option}" if w == said else w for w in words]


def composed(words: Sequence[str]) -> DictConfig:
    """The training configuration of a command line, of which no run will come."""
    cli.check_choices(words)
    with initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
        cfg = compose("train", ["data.batch_size=1", *words])  # a folder may be smaller than a training batch
    with open_dict(cfg):
        cfg.run_dir = "."
    return cfg
