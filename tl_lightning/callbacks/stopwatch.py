"""How long epochs take, from a few batches of each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


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
    """Ends every epoch after some seconds and notes its times: the first of two warms up, the second counts."""

    def __init__(self, limit: float, fewest: int = 3) -> None:
        self.limit, self.fewest = limit, fewest
        self.epochs: list[EpochTimes] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin."""
        now = time.perf_counter()
        if self.epochs:
            self.epochs[-1].ended = now
        self.epochs.append(EpochTimes(now))

    def on_train_batch_start(  # type: ignore[override]  # Lightning leaves out the rest for -1, and does not declare it
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> int | None:
        """Leave out the rest of the epoch, if enough was seen."""
        warms_up = len(self.epochs) % 2 == 1
        spent = time.perf_counter() - self.epochs[-1].began
        enough = batch_idx >= (1 if warms_up else self.fewest)
        return -1 if enough and (warms_up or spent > self.limit) else None

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
