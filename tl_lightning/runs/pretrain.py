"""Pretraining as a job: from conf/pretrain.yaml to a file of weights."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import EMAWeightAveraging
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import nn

import tl_lightning
from tl_lightning.backbones.statistics import recalibrate
from tl_lightning.callbacks.checkpoints import LastCheckpoint
from tl_lightning.callbacks.interrupt import Interrupt
from tl_lightning.errors import UserError
from tl_lightning.pretraining.data import DrawnImages
from tl_lightning.pretraining.module import INPUT, Pretraining, level
from tl_lightning.pretraining.watch import Watch
from tl_lightning.runs.build import instantiate, refusing
from tl_lightning.runs.ranks import following
from tl_lightning.runs.resume import take_over
from tl_lightning.runs.train import fit, quiet, shared_threads

log = logging.getLogger(__name__)

_SIZE = 0.1  # of the weights in the file: at a rate of 1e-3, AdamW changes them by a hundredth a step
_CALIBRATION = 12_800  # images, at most, that the BatchNorm statistics in the file are taken from


def pretrain(cfg: DictConfig) -> Path:
    """Train, recalibrate, write; gives the file of weights.

    Raises UserError on bad input, KeyboardInterrupt when stopped by hand.
    """
    quiet()
    checkpoint = None
    if cfg.resume:
        cfg, checkpoint = _resumed(cfg, HydraConfig.get().overrides.task if HydraConfig.initialized() else [])
    run = Path(cfg.run_dir)
    L.seed_everything(cfg.seed, verbose=False)
    with refusing("data"):
        data: DrawnImages = instantiate(cfg.data)
    with refusing("model"):
        module: Pretraining = instantiate(cfg.model).to(memory_format=torch.channels_last)
    trainer = _trainer(cfg, run)
    if trainer.is_global_zero:
        OmegaConf.save(OmegaConf.merge(cfg, {"run_dir": str(run)}), run / "config.yaml")
        log.info(
            f"pretrain  {cfg.model.name}, {cfg.data.systems} systems, {cfg.data.views * trainer.max_epochs:,} images"
        )
        log.info(f"run       {run}")
    with following(run, "pretrain"), shared_threads(trainer):
        fit(trainer, module, data, run, checkpoint, "scripts/pretrain.py")
    path = run / "weights.safetensors"
    if trainer.is_global_zero:
        kept = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
        module.load_state_dict(kept["state_dict"])  # averaged: also where a run is resumed that had come to its end
        write(path, cfg, module, data)
        log.info(str(path))
    return path


def _trainer(cfg: DictConfig, run: Path) -> L.Trainer:
    options: dict[str, Any] = OmegaConf.to_container(cfg.trainer, resolve=True)  # type: ignore[assignment]
    keeper = LastCheckpoint(
        dirpath=run / "checkpoints", filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    with refusing("trainer"):
        return L.Trainer(
            **options,
            callbacks=[Interrupt(), EMAWeightAveraging(decay=cfg.ema), Watch(), keeper],
            logger=[instantiate(member) for member in cfg.logger.values() if member is not None],
            default_root_dir=run,
            reload_dataloaders_every_n_epochs=1,  # each epoch draws from a seed of its own
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )


def _resumed(cfg: DictConfig, overrides: Sequence[str]) -> tuple[DictConfig, str]:
    """The run's own configuration and its last checkpoint; the machine alone may change."""
    run = Path(cfg.resume).expanduser()
    last = run / "checkpoints" / "last.ckpt"
    if not last.is_file():
        raise UserError(f"resume={run} cannot be resumed: {last.relative_to(run)} is missing there")
    saved = OmegaConf.load(run / "config.yaml")
    assert isinstance(saved, DictConfig)
    take_over(saved, cfg, overrides, ("trainer.accelerator", "trainer.precision", "data.workers"))
    saved.resume = saved.run_dir = str(run)  # further ranks read it
    return saved, str(last)


def write(path: Path, cfg: DictConfig, module: Pretraining, data: DrawnImages) -> None:
    """The network in half precision, its statistics taken anew at the last size; how it was made as metadata."""
    net: nn.Module = module.backbone.net
    epochs = cfg.trainer.max_epochs
    fresh = data.stream(epochs, epochs, min(_CALIBRATION, cfg.data.views), 0)  # an epoch that was not trained on
    recalibrate(net, (INPUT.normalise(images) for images, _ in fresh))
    level(net, _SIZE)
    state = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    facts = {
        "network": cfg.model.name,
        "size": str(data.size(epochs, epochs)),
        "views": f"{cfg.data.views * epochs}",
        "seed": f"{cfg.seed}",
        "recipe": " ".join(f"{k}={v}" for k, v in _flat(cfg)),
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


def _flat(cfg: DictConfig) -> list[tuple[str, Any]]:
    keys = [("model", k) for k in cfg.model] + [("data", k) for k in cfg.data]
    return [(f"{g}.{k}", cfg[g][k]) for g, k in keys if not str(k).startswith("_")]
