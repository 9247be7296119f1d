"""Makes the learner obey its plan: who has gradients, who is in training mode, epoch by epoch."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.strategies import DDPStrategy

from tl_lightning.backbones.norms import FirstBatch
from tl_lightning.compat import wrap_again
from tl_lightning.learner import Learner, learner


class Phases(Callback):
    """Applies the phase that an epoch belongs to, again at the start of every epoch.

    The trainable set is a pure function of the epoch, so a resumed run cannot differ from one never stopped;
    for the same reason each epoch starts from a random state of its own. Frozen means no gradients and eval().
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._applied: int | None = None
        self._first_batch = FirstBatch()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Freeze before a distributed strategy wraps the model, so that frozen stages cost nothing there."""
        if stage == "fit":
            learner(pl_module).members.apply(trainer.current_epoch)
            pl_module.train()  # modes are set at each epoch's start; until then Lightning warns of any eval()
            self._applied = learner(pl_module).plan.index(trainer.current_epoch)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Enter the epoch's phase; on a change tell the distributed wrapper and the compiler."""
        epoch = trainer.current_epoch
        torch.manual_seed(self.seed * 1_000_003 + epoch * 1009 + trainer.global_rank)
        pl_module.train()
        learner(pl_module).members.apply(epoch)
        index = learner(pl_module).plan.index(epoch)
        if index != self._applied:
            if isinstance(trainer.strategy, DDPStrategy):
                wrap_again(trainer.strategy)
            torch.compiler.reset()  # compiled code may have been guarded on the old set (pytorch#139476)
        self._applied = index

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Random weights take their BatchNorm statistics from the first batch."""
        if batch_idx == 0 and not learner(pl_module).backbone.pretrained:
            self._first_batch.begin(pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """From the second batch on, statistics follow at their own pace."""
        self._first_batch.end()


class PhasedEarlyStopping(EarlyStopping):
    """EarlyStopping that starts counting in the last phase, when everything that should learn does.

    `monitor` None: the task's own; `mode` None: the direction in which it improves. A resumed run keeps what has been
    counted, but its `patience` is what it is told now.
    """

    def __init__(self, module: Learner, *, monitor: str | None = None, mode: str | None = None, **options: Any) -> None:
        monitor = monitor or module.task.monitor
        super().__init__(monitor, mode=mode or module.task.mode(monitor), **options)

    @property
    def ended(self) -> str:
        """Why it has ended the run, for people; empty if it has not."""
        if self.stopping_reason_message is None or not self.stopped_epoch:
            return ""
        if self.wait_count >= self.patience:
            return f"early stopping: no better {self.monitor} for {self.wait_count} epochs"
        return f"early stopping: {self.stopping_reason_message}"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What had been counted."""
        super().load_state_dict({**state_dict, "patience": self.patience, "stopped_epoch": 0})
        self.stopping_reason, self.stopping_reason_message = EarlyStoppingReason.NOT_STOPPED, None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check, unless stages still wait for their turn."""
        if _in_last_phase(trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check, unless stages still wait for their turn."""
        if _in_last_phase(trainer, pl_module):
            super().on_validation_end(trainer, pl_module)


def _in_last_phase(trainer: L.Trainer, pl_module: L.LightningModule) -> bool:
    plan = learner(pl_module).plan
    return plan.index(trainer.current_epoch) == len(plan.phases) - 1
