"""From a configuration to live objects: facts flow one way, and the configuration stops here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import hydra.utils
import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from omegaconf import DictConfig, OmegaConf
from torch import nn

from tl_lightning.backbones.backbone import Backbone
from tl_lightning.callbacks.phases import Phases
from tl_lightning.data.datamodule import ImageDataModule
from tl_lightning.errors import UserError
from tl_lightning.module import TransferModule
from tl_lightning.reports.tensorboard import Report
from tl_lightning.strategies.plan import Facts, Strategy

log = logging.getLogger(__name__)

# What a configuration may build. A run's config.yaml may come from somebody else: it must not call anything.
_ALLOWED = ("tl_lightning.", "torch.optim.", "lightning.pytorch.callbacks.", "lightning.pytorch.loggers.")


@dataclass(frozen=True)
class Parts:
    """All that a run is made of."""

    module: TransferModule
    data: ImageDataModule
    strategy: Strategy
    trainer: L.Trainer


def instantiate(cfg: Any, *args: Any, **kwargs: Any) -> Any:
    """Hydra's instantiate for targets of this package, torch's optimizers, Lightning's callbacks and loggers."""
    for target in _targets(OmegaConf.to_container(cfg, resolve=False)):
        if not target.startswith(_ALLOWED):
            raise UserError(
                f"_target_ '{target}' may not be built from a configuration: allowed are {', '.join(_ALLOWED)}"
            )
    return hydra.utils.instantiate(cfg, *args, **kwargs)


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _targets(child)


def build(cfg: DictConfig) -> Parts:
    """Backbone > data > strategy > head > plan > module > trainer. Raises UserError before anything is trained."""
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    options = trainer_options(cfg)
    backbone: Backbone = _made(cfg, "backbone")
    data: ImageDataModule = _made(cfg, "data", backbone.input, _made(cfg, "augment"))
    facts = Facts(backbone.pretrained, len(data.classes), sum(data.folder.counts("train")))
    strategy: Strategy = _made(cfg, "strategy").given(facts)
    backbone = strategy.shape(backbone)
    head: nn.Module = _made(cfg, "head", backbone.feature_dim, data.prior())
    plan = strategy.plan(backbone.stage_names)
    plan.check_length(cfg.trainer.max_epochs)
    module = TransferModule(
        backbone,
        head,
        plan,
        data.classes,
        _made(cfg, "optimizer"),
        _made(cfg, "schedule"),
        label_smoothing=cfg.label_smoothing,
        class_weights=data.class_weights,
    )
    if options.pop("channels_last"):
        module.to(memory_format=torch.channels_last)
    if backend := options.pop("compile"):
        module.backbone.compile(backend=backend)
    watchers = [Phases(cfg.seed), Report(backbone.input, every=options["log_every_n_steps"]), *_built(cfg.callbacks)]
    # what the group leaves out Lightning would put back
    options["enable_checkpointing"] = any(isinstance(w, ModelCheckpoint) for w in watchers)
    options["enable_progress_bar"] = any(isinstance(w, ProgressBar) for w in watchers)
    trainer = L.Trainer(**options, callbacks=watchers, logger=_built(cfg.logger), default_root_dir=cfg.run_dir)
    return Parts(module, data, strategy, trainer)


def trainer_options(cfg: DictConfig) -> dict[str, Any]:
    """The trainer group as plain values; UserError for what is missing, or for an accelerator that is not there."""
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{missing[0]} must be given: {missing[0]}=...")
    options: dict[str, Any] = OmegaConf.to_container(cfg.trainer, resolve=True)  # type: ignore[assignment]
    if not isinstance(options["max_epochs"], int) or options["max_epochs"] < 1:
        raise UserError(f"trainer.max_epochs={options['max_epochs']} must be a whole number of epochs, at least 1")
    if options["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError(
            "trainer.accelerator=gpu: this machine has no usable CUDA GPU; take trainer=cpu (or trainer=auto)"
        )
    if options["accelerator"] == "cuda":
        options["accelerator"] = "gpu"
    return options


def _made(cfg: DictConfig, group: str, *facts: Any) -> Any:
    """What a group's target makes, given the facts that its constructor still misses; UserError if it refuses them."""
    try:
        made = instantiate(cfg[group])
        return made(*facts) if facts else made
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{group}: {error}") from error


def _built(group: DictConfig) -> list[Any]:
    return [instantiate(member) for member in group.values() if member is not None]
