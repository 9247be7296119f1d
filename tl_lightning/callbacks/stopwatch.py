"""How long epochs take, from a few batches of each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

_WARM = 2  # batches of an epoch that warms up


@dataclass
class EpochTimes:
    """When an epoch began, its batches ended, its evaluation began and its batches ended, and when all of it had."""

    began: float
    steps: list[float] = field(default_factory=list)
    evaluation: float = 0.0
    evaluated: list[float] = field(default_factory=list)
    after_evaluation: float = 0.0
    ended: float = 0.0

    def seconds(self, steps: int, evaluated: int) -> float:
        """Of an epoch of so many training batches and batches of evaluation."""
        after = self.ended - max(self.after_evaluation, self.steps[-1])
        return _stretched(self.began, self.steps, steps) + self.evaluation_seconds(evaluated) + after

    def evaluation_seconds(self, batches: int) -> float:
        """Of so many batches of evaluation, and of what is made of them."""
        if not self.evaluated:
            return 0.0
        return _stretched(self.evaluation, self.evaluated, batches) + self.after_evaluation - self.evaluated[-1]


class Stopwatch(Callback):
    """Notes the times of epochs that are cut short: the first of two warms up by two batches, the second counts.

    It has as many batches as `limit` seconds allow, at least `fewest`. Loader processes stay, as in a run.
    """

    def __init__(self, limit: float, fewest: int = 3) -> None:
        self.limit, self.fewest = limit, fewest
        self.epochs: list[EpochTimes] = []
        self._all = 0  # batches of a whole epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin."""
        now = time.perf_counter()
        if self.epochs:
            self.epochs[-1].ended = now
        self.epochs.append(EpochTimes(now))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Warm up first."""
        self._all = int(trainer.num_training_batches)
        self._cut(trainer, _WARM)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how long the next epoch is to be."""
        steps, batches = self.epochs[-1].steps, _WARM
        if len(self.epochs) % 2:
            pace = (steps[-1] - steps[0]) / max(1, len(steps) - 1) or self.limit
            batches = max(self.fewest, int(self.limit / pace))
        self._cut(trainer, batches)

    def _cut(self, trainer: L.Trainer, batches: int) -> None:
        """So many batches of the next epoch, after which it is evaluated."""
        trainer.fit_loop.max_batches = trainer.val_check_batch = min(batches, self._all)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A step has ended."""
        self.epochs[-1].steps.append(time.perf_counter())

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluation begins."""
        self.epochs[-1].evaluation = time.perf_counter()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A batch was evaluated."""
        self.epochs[-1].evaluated.append(time.perf_counter())

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluation has ended."""
        self.epochs[-1].after_evaluation = time.perf_counter()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last epoch has ended."""
        self.epochs[-1].ended = time.perf_counter()


def _stretched(began: float, ends: list[float], number: int) -> float:
    """Seconds of `number` batches, of which a few ended at these times."""
    first = ends[0] - began
    apart = median([b - a for a, b in pairwise(ends)]) if len(ends) > 1 else first
    return ends[-1] - began + max(0, number - len(ends)) * apart
