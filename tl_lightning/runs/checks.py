"""Values that would otherwise fail late or, worse, not at all."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from tl_lightning.errors import UserError, nearest
from tl_lightning.paths import cache_bytes

# key: (type, lowest, highest or None); a key that a configuration has not, or that is null where it may, is passed.
_NUMBERS: dict[str, tuple[type, float, float | None]] = {
    "seed": (int, 0, 2**32 - 1),
    "label_smoothing": (float, 0, 1),
    "data.batch_size": (int, 1, None),
    "data.workers": (int, 0, None),
    "data.max_per_class": (int, 1, None),
    "trainer.max_epochs": (int, 1, None),
    "trainer.accumulate_grad_batches": (int, 1, None),
    "trainer.log_every_n_steps": (int, 1, None),
    "strategy.stages": (int, 1, None),
    "strategy.every": (int, 1, None),
    "strategy.head_epochs": (int, 0, None),
    "strategy.rank": (int, 1, None),
    "strategy.alpha": (float, 0, None),
    "strategy.few": (float, 0, None),
    "strategy.alike": (float, -1, 1),
    "strategy.trial_seconds": (float, 0, None),
    "regularizer.strength": (float, 0, None),
    "regularizer.temperature": (float, 1e-6, None),
    "regularizer.smallest": (int, 1, None),
    "strategy.speed": (float, 0, None),
    "strategy.decay": (float, 0, None),
    "optimizer.lr": (float, 0, None),
    "head.hidden": (int, 1, None),
    "augment.min_scale": (float, 0, 1),
    "augment.flip": (float, 0, 1),
    "augment.erasing": (float, 0, 1),
}
_KEYS = {
    "backbone", "data", "strategy", "head", "regularizer", "optimizer", "schedule", "augment", "callbacks", "logger",
    "trainer", "experiment", "seed", "label_smoothing", "cache", "cache_dtype", "engine", "resume", "debug", "run_dir",
}  # fmt: skip
_MAY_BE_NULL = {
    "data.workers",
    "data.max_per_class",
    "strategy.speed",
    "strategy.decay",
    "strategy.head_epochs",
    "augment.min_scale",
}


def check(cfg: DictConfig) -> None:
    """UserError for a value that is missing, of the wrong kind or out of bounds."""
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{missing[0]} must be given: {missing[0]}=...")
    if strange := sorted(set(cfg) - _KEYS):
        raise UserError(f"there is no option '{strange[0]}': {nearest(str(strange[0]), sorted(_KEYS))}")
    for key, bounds in _NUMBERS.items():
        group, _, name = key.rpartition(".")
        node: Any = cfg[group] if group else cfg
        if name in node and not (node[name] is None and key in _MAY_BE_NULL):
            _check_number(key, node[name], *bounds)
    _check_trainer(cfg.trainer)
    if str(cfg.optimizer._target_).endswith("SAMAdamW"):
        for key, only in (("accumulate_grad_batches", (1,)), ("precision", ("32-true", "bf16-mixed", "bf16-true"))):
            if cfg.trainer[key] not in only:
                said = f"trainer.{key}={cfg.trainer[key]}"
                raise UserError(
                    f"optimizer=sam looks at every batch twice, which {said} does not allow: take {only[0]}"
                )
    cache_bytes()  # a wrong TL_CACHE_GB, which a run that finds all it needs would not notice


def _check_number(key: str, value: Any, kind: type, lowest: float, highest: float | None) -> None:
    fits = isinstance(value, (int, kind)) and not isinstance(value, bool)
    if not fits or value < lowest or (highest is not None and value > highest):
        word = "whole number" if kind is int else "number"
        upto = "" if highest is None else f", at most {highest}"
        raise UserError(f"{key}={value} must be a {word} of at least {lowest}{upto}")


def _check_trainer(trainer: DictConfig) -> None:
    if trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu: there is no usable CUDA GPU here; take trainer=cpu")
    for key, only in (("check_val_every_n_epoch", 1), ("overfit_batches", 0)):
        if trainer.get(key, only) != only:
            raise UserError(f"trainer.{key} must stay {only}: every epoch trains and validates on images of its own")
    if trainer.get("sync_batchnorm"):
        raise UserError(
            "trainer.sync_batchnorm=true replaces the layers that the plan freezes: leave it out, and where BatchNorm "
            "learns its statistics (strategy.norm=track or train) give each process a batch large enough for them"
        )
    for key in ("limit_val_batches", "limit_train_batches"):
        if trainer.get(key, 1) == 0:
            raise UserError(f"trainer.{key}=0 leaves nothing to do: take at least 1")
