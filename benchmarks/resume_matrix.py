"""Resumed runs against runs that were never stopped: bit-equal weights, for every strategy, loader and cache.

    python benchmarks/resume_matrix.py [STRATEGY ...]

Every configuration is trained for five epochs, gradual_unfreeze for the six that its phases need; after each epoch but
the last its folder is copied, which is what a kill at that moment leaves, and the copy, that is a run in a moved
folder, is resumed. Equal means every tensor of the last checkpoint, the averaged weights among them, and the weights
of model.safetensors.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import tl_lightning  # noqa: F401  # first: it lets torchvision be imported

import lightning as L  # isort: skip
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from PIL import Image
from safetensors.torch import load_file

from tl_lightning.config.compose import composed
from tl_lightning.config.settings import settings_of
from tl_lightning.jobs.train import train
from tl_lightning.runs.folder import RunFolder

EPOCHS = 5
STRATEGIES = ("feature_extraction", "finetune_top", "finetune_all", "norm_only", "bitfit",
              "gradual_unfreeze trainer.max_epochs=6", "lp_ft", "early_features", "lora", "auto",
              "finetune_all strategy.norm=track")  # fmt: skip
CACHES = ("auto", "off", "3")
WORKERS = (0, 1, 2)
AVERAGES = ("default", "ema")


def photos(root: Path) -> Path:
    """Two classes of a dozen noisy images."""
    for k, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for i in range(12):
            noise = np.random.default_rng([k, i]).integers(0, 60, (40, 36, 3)) + (40, 140)[k]
            Image.fromarray(noise.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


class Copies(Callback):
    """The run's folder as it is after every epoch but the last."""

    def __init__(self, run: Path, into: Path) -> None:
        self.run, self.into = run, into

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The epoch before is written by now."""
        if trainer.current_epoch:
            copy = self.into / str(trainer.current_epoch)
            shutil.copytree(self.run, copy, ignore=shutil.ignore_patterns(".lock"))
            config = RunFolder(copy).config_file
            values = yaml.safe_load(config.read_text())
            del values["callbacks"]["copies"]  # this object, which no file describes
            config.write_text(yaml.safe_dump(values))


def words(root: Path, strategy: str, cache: str, workers: int, average: str) -> list[str]:
    """Of a small run on these photos."""
    return [f"data.root={root}", "data.batch_size=4", f"data.workers={workers}", f"cache={cache}", "trainer=cpu",
            "backbone=mobilenet_v2", "backbone.weights=formula", "backbone.image_size=32", f"callbacks={average}",
            "callbacks.progress=null", "callbacks.early_stopping=null", "callbacks.forgetting=null", "logger=none",
            "+callbacks.last.apart=0", "augment=light", f"trainer.max_epochs={EPOCHS}", "seed=3",
            *f"strategy={strategy}".split()]  # fmt: skip


def differences(whole: Path, part: Path) -> list[str]:
    """Tensors that are not the same, bit for bit."""
    a, b = (torch.load(RunFolder(r).last_checkpoint, weights_only=True)["state_dict"] for r in (whole, part))
    models = [load_file(RunFolder(r).weights_file) for r in (whole, part)]
    found = [k for k, v in a.items() if not torch.equal(v, b[k])]
    return found + [k for k, v in models[0].items() if not torch.equal(v, models[1][k])]


def resumed(home: Path, said: list[str]) -> Iterator[tuple[int, list[str]]]:
    """(epoch, what differs) of every copy of a run that is gone on with."""
    whole = home / "whole"
    values = composed(said, str(whole))
    values["callbacks"]["copies"] = Copies(whole, home)
    train(settings_of(values))
    for epoch in sorted(int(copy.name) for copy in home.iterdir() if copy.name.isdigit()):
        settings = settings_of(composed([], str(home / str(epoch))))
        train(replace(settings, resume=str(home / str(epoch))), ["resume"])
        yield epoch, differences(whole, home / str(epoch))


def main() -> None:
    """Print a line for every configuration, and how many are equal."""
    logging.disable(logging.WARNING)
    chosen = sys.argv[1:] or STRATEGIES
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TL_CACHE"] = f"{scratch}/cache"
        root, equal, number = photos(Path(scratch, "photos")), 0, 0
        for strategy, cache, workers, average in product(chosen, CACHES, WORKERS, AVERAGES):
            began = time.perf_counter()
            home = Path(tempfile.mkdtemp(dir=scratch))
            wrong = {e: d for e, d in resumed(home, words(root, strategy, cache, workers, average)) if d}
            shutil.rmtree(home)
            verdict = (
                "equal"
                if not wrong
                else f"differs after {', '.join(map(str, wrong))}: {next(iter(wrong.values()))[:2]}"
            )
            print(f"| {strategy} | {cache} | {workers} | {average} | {verdict} | {time.perf_counter() - began:.1f} s |",
                  flush=True)  # fmt: skip
            number, equal = number + 1, equal + (not wrong)
        print(f"{equal} of {number} configurations, each stopped after every epoch, equal bit for bit")


if __name__ == "__main__":
    main()
