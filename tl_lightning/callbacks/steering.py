"""What a sweep does in the middle of its jobs: stop one that others have left behind, or for now."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

from tl_lightning import checks
from tl_lightning.learner import learner
from tl_lightning.search import Search


class StopAfter(Callback):
    """Ends a run after some epochs of a schedule that is longer: resumed, it goes on as if it had never stopped."""

    def __init__(self, epochs: int) -> None:
        checks.whole("callbacks.until.epochs", epochs, 1)
        self.epochs = epochs
        self.ended = ""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A run that was killed after its last epoch has none left."""
        self._stop(trainer, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop, if it is time; before checkpoints are written, which then hold the last epoch."""
        self._stop(trainer, trainer.current_epoch + 1)

    def _stop(self, trainer: L.Trainer, done: int) -> None:
        if self.epochs <= done < (trainer.max_epochs or 0) and not trainer.should_stop:
            trainer.should_stop = True
            self.ended = f"request, of {trainer.max_epochs}"


class Pruning(Callback):
    """Ends a trial whose score is worse than the median of the others after as many epochs.

    `file`: the journal of the search; `trial`: its number there. Ranks do what the first one is told.
    """

    def __init__(self, file: str, trial: int) -> None:
        self.file, self.trial = Path(file), trial
        self.ended = ""
        self._search: Search | None = None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the epoch's score, and stop if it is not promising."""
        name = learner(pl_module).task.monitor
        score = trainer.callback_metrics.get(name)
        behind = False
        if trainer.is_global_zero and score is not None:
            self._search = self._search or Search(self.file)
            behind = self._search.report(self.trial, trainer.current_epoch, float(score))
        if trainer.strategy.broadcast(behind) and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            trainer.should_stop = True
            self.ended = f"pruning: {name} is behind the median of the other trials"
