"""Which epochs are kept: the best, the last and the last but one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from tl_lightning.callbacks.finite import epoch_is_finite
from tl_lightning.learner import Learner

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # in the state of a ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best epoch, of several equal ones the latest; never one whose numbers are not finite.

    On small validation sets ties are the rule, and the first epoch of a tie has learned the least. `monitor` None: the
    task's own score; `mode` None: the direction in which it improves.
    """

    def __init__(self, module: Learner, *, monitor: str | None = None, mode: str | None = None, **options: Any) -> None:
        monitor = monitor or module.task.monitor
        super().__init__(monitor=monitor, mode=mode or module.task.mode(monitor), **options)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, if it is the best so far."""
        if epoch_is_finite(trainer):
            super().on_train_epoch_end(trainer, pl_module)

    def keep_start(self, trainer: L.Trainer, score: float) -> None:
        """Take the weights that training begins from for the best so far: what an exact head was worth before it."""
        path = str(Path(str(self.dirpath), f"{self.filename}.ckpt"))
        self.best_model_score = self.kth_value = self.current_score = torch.tensor(score)
        self.best_model_path = self.kth_best_model_path = path
        self.best_k_models = {path: self.best_model_score}
        trainer.save_checkpoint(path)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The best so far of a run that may have been moved: its files lie where the folder lies now."""
        super().load_state_dict(_here(state_dict, str(self.dirpath)))

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Whether the monitored value, a scalar, is as good as the best so far."""
        if current is not None and self.best_model_score is not None and current == self.best_model_score:
            return True
        return bool(super().check_monitor_top_k(trainer, current))


class LastCheckpoint(ModelCheckpoint):
    """Keeps the last epoch to resume from, and the one before: every epoch, but at most every `apart` seconds.

    `previous`: the file name of the latter, as `filename` is that of the former. Where an epoch takes less time than
    writing it down, what a stop can lose is not worth writing. The run's last
    epoch is always kept, one whose numbers are not finite never.
    """

    def __init__(self, *, apart: float = 5.0, previous: str = "previous", **options: Any) -> None:
        super().__init__(**options)
        self.previous = previous
        self.apart, self._kept = apart, float("-inf")
        self._best: Tensor | None = None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, if it is time."""
        ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        keeper = trainer.checkpoint_callback  # a better epoch is one that a stop shall not lose
        best = keeper.best_model_score if isinstance(keeper, ModelCheckpoint) else None
        due = ends or best != self._best or time.monotonic() - self._kept >= self.apart
        if not epoch_is_finite(trainer):
            return
        if trainer.strategy.broadcast(bool(due)):  # saving is done by all ranks together, whose clocks differ
            if trainer.is_global_zero:
                self._keep_previous()
            super().on_train_epoch_end(trainer, pl_module)
            self._kept, self._best = time.monotonic(), best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of a run that may have been moved."""
        super().load_state_dict(_here(state_dict, str(self.dirpath)))

    def _keep_previous(self) -> None:
        """Put the checkpoint that is there under the name of the last but one: one of the two is always whole."""
        last = Path(str(self.dirpath), f"{self.filename}.ckpt")
        if last.is_file():
            os.replace(last, last.with_name(f"{self.previous}.ckpt"))


def _here(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """The state of a ModelCheckpoint whose files lie in `folder` now."""
    moved = {key: str(Path(folder, Path(state[key]).name)) for key in _PATHS if state.get(key)}
    best = {str(Path(folder, Path(path).name)): score for path, score in state.get("best_k_models", {}).items()}
    return {**state, **moved, "best_k_models": best, "dirpath": folder}
