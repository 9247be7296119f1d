"""One line per epoch, for people and for the log file."""

from __future__ import annotations

import logging
import time

import lightning as L
from lightning.pytorch.callbacks import Callback

from tl_lightning.learner import learner

log = logging.getLogger(__name__)


class EpochLines(Callback):
    """Logs what an epoch gave, once its validation is done."""

    def __init__(self) -> None:
        self._began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the line."""
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        scores = {name: f"val/{score}" for score, name in learner(pl_module).task.shown.items()}
        shown = {"train loss": "train/loss_epoch", "val loss": "val/loss", **scores}
        parts = [f"{name} {values[key]:.4f}" for name, key in shown.items() if key in values]
        if trainer.is_global_zero:
            seconds = time.perf_counter() - self._began
            log.info(f"epoch {trainer.current_epoch:3d}  " + "  ".join(parts) + f"  {seconds:.1f} s")
