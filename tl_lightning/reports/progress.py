"""How far a run has come: in a bar with the loss and the time that is left of all epochs, or in a line now and then."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar

from tl_lightning.learner import learner

log = logging.getLogger(__name__)


class Clock:
    """The time that is left of a run, from the pace so far."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._at = 0.0

    def left(self, trainer: L.Trainer) -> str:
        """For people, like 0:12:30; empty at the first batch."""
        batches = max(1, int(trainer.num_training_batches))
        done = trainer.current_epoch + (trainer.fit_loop.batch_idx + 1) / batches
        if self._began is None:
            self._began, self._at = time.monotonic(), done
            return ""
        pace = (done - self._at) / max(time.monotonic() - self._began, 1e-9)
        epochs = trainer.max_epochs or 1
        return str(timedelta(seconds=round((epochs - done) / pace))) if pace > 0 else ""


class RunProgress(RichProgressBar):
    """Lightning's bar of an epoch, with the last loss and the time that is left of the whole run beside it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._clock = Clock()

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """What stands beside the bar."""
        loss = learner(pl_module).latest_loss
        shown: dict[str, Any] = {} if loss is None else {"loss": round(float(loss), 4)}
        if trainer.training and (left := self._clock.left(trainer)):
            shown["run"] = f"{left} left"
        return shown


class Heartbeat(Callback):
    """A line now and then of an epoch that takes its time, where nobody sees a bar."""

    def __init__(self, apart: float = 30.0) -> None:
        self.apart, self._clock = apart, Clock()
        self._said = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The epoch before had a line of its own."""
        self._said = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say how far it has come, if it is time."""
        left = self._clock.left(trainer) if batch_idx == 0 or time.monotonic() - self._said >= self.apart else ""
        if batch_idx and left and trainer.is_global_zero:
            self._said = time.monotonic()
            loss = learner(pl_module).latest_loss
            shown = "" if loss is None else f"loss {float(loss):.4f}, "
            number = f"{batch_idx + 1} of {int(trainer.num_training_batches)} batches"
            log.info(f"epoch {trainer.current_epoch:3d}  {number}, {shown}{left} left of the run")
