"""Pretraining as a job: from conf/pretrain.yaml to a file of weights."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from safetensors.torch import save_file
from torch import nn

import tl_lightning
from tl_lightning import targets
from tl_lightning.backbones.norms import recalibrate
from tl_lightning.build import refusing
from tl_lightning.callbacks.checkpoints import LastCheckpoint
from tl_lightning.callbacks.interrupt import Interrupt
from tl_lightning.errors import UserError
from tl_lightning.jobs.fit import fit, quiet, shared_threads
from tl_lightning.jobs.processes import following
from tl_lightning.pretraining.data import DrawnImages
from tl_lightning.pretraining.pretraining_module import INPUT, Pretraining, level
from tl_lightning.pretraining.watch import Watch
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.resume import take_over

log = logging.getLogger(__name__)

_SIZE = 0.1  # of the weights in the file: at a rate of 1e-3, AdamW changes them by a hundredth a step
_CALIBRATION = 12_800  # images, at most, that the BatchNorm statistics in the file are taken from


@dataclass(frozen=True)
class PretrainSettings:
    """The values of conf/pretrain.yaml."""

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    trainer: Mapping[str, Any]
    logger: Mapping[str, Any]
    ema: float
    run_dir: str
    seed: int = 0
    resume: str | None = None
    debug: bool = False


def pretrain(values: Mapping[str, Any], words: Sequence[str] = ()) -> Path:
    """Train, recalibrate, write; gives the file of weights.

    Raises UserError on bad input, KeyboardInterrupt when stopped by hand.
    """
    quiet()
    checkpoint = None
    if values["resume"]:
        values, checkpoint = _resumed(values, words)
    settings = PretrainSettings(**values)
    folder = RunFolder(Path(settings.run_dir))
    L.seed_everything(settings.seed, verbose=False)
    with refusing("data"):
        data: DrawnImages = targets.build(settings.data)
    with refusing("model"):
        module: Pretraining = targets.build(settings.model).to(memory_format=torch.channels_last)
    trainer = _trainer(settings)
    if trainer.is_global_zero:
        folder.write_config({k: v for k, v in values.items() if k != "debug"})
        images = settings.data["views"] * trainer.max_epochs
        log.info(f"pretrain  {settings.model['name']}, {settings.data['systems']} systems, {images:,} images")
        log.info(f"run       {folder.path}")
    with following(folder.path, "pretrain"), shared_threads(trainer):
        fit(trainer, module, data, folder, checkpoint, "scripts/pretrain.py")
    path = folder.path / "weights.safetensors"
    if trainer.is_global_zero:
        kept = torch.load(folder.last_checkpoint, map_location="cpu", weights_only=True)
        module.load_state_dict(kept["state_dict"])  # averaged: also where a run is resumed that had come to its end
        write(path, settings, module, data)
        log.info(str(path))
    return path


def follow(folder: RunFolder, allow: tuple[str, ...]) -> None:
    """Take part in a run as one more rank."""
    pretrain(folder.config())


def _trainer(settings: PretrainSettings) -> L.Trainer:
    last = RunFolder(Path(settings.run_dir)).last_checkpoint
    keeper = LastCheckpoint(
        dirpath=last.parent, filename=last.stem, save_on_train_epoch_end=True, enable_version_counter=False
    )
    with refusing("trainer"):
        return L.Trainer(
            **settings.trainer,
            callbacks=[Interrupt(), EMAWeightAveraging(decay=settings.ema), Watch(), keeper],
            logger=[targets.build(member) for member in settings.logger.values() if member is not None],
            default_root_dir=settings.run_dir,
            reload_dataloaders_every_n_epochs=1,  # each epoch draws from a seed of its own
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )


def _resumed(values: Mapping[str, Any], words: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The run's own values and its last checkpoint; the machine alone may change."""
    folder = RunFolder(Path(values["resume"]).expanduser())
    last = folder.last_checkpoint
    if not last.is_file():
        raise UserError(f"resume={folder.path} cannot be resumed: {last.relative_to(folder.path)} is missing there")
    saved = folder.config()
    take_over(saved, values, words, ("trainer.accelerator", "trainer.precision", "data.workers"))
    saved["resume"] = str(folder.path)  # further ranks read it
    return saved, str(last)


def write(path: Path, settings: PretrainSettings, module: Pretraining, data: DrawnImages) -> None:
    """The network in half precision, its statistics taken anew at the last size; how it was made as metadata."""
    net: nn.Module = module.backbone.net
    epochs = settings.trainer["max_epochs"]
    views = min(_CALIBRATION, settings.data["views"])
    fresh = data.stream(epochs, epochs, views, 0)  # an epoch that was not trained on
    recalibrate(net, (INPUT.normalise(images) for images, _ in fresh))
    level(net, _SIZE)
    state = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    facts = {
        "network": settings.model["name"],
        "size": str(data.size(epochs, epochs)),
        "views": f"{settings.data['views'] * epochs}",
        "seed": f"{settings.seed}",
        "recipe": " ".join(f"{k}={v}" for k, v in _flat(settings)),
        "tl_lightning": tl_lightning.__version__,
        "commit": _commit(),
        "licence": "Apache-2.0",
    }
    save_file({k: v.contiguous().cpu() for k, v in state.items()}, path, {"format": "pt", **facts})


def _commit() -> str:
    """The commit of the code that runs, "+" for changes beyond it; empty where that is no checkout."""
    command = [
        "git",
        "-C",
        str(Path(tl_lightning.__file__).parents[1]),
        "describe",
        "--always",
        "--abbrev=12",
        "--dirty=+",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # no git
        return ""


def _flat(settings: PretrainSettings) -> list[tuple[str, Any]]:
    groups = {"model": settings.model, "data": settings.data}
    return [(f"{g}.{k}", v) for g, values in groups.items() for k, v in values.items() if not k.startswith("_")]
