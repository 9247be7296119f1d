"""Pictures and curves beside Lightning's own scalars."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

from tl_lightning import optim
from tl_lightning.inputs import ImageInput
from tl_lightning.module import learner
from tl_lightning.strategies.plan import HEAD


class Report(Callback):
    """One rate curve per stage, the first training images or texts, and confusion matrices.

    `every`: steps between rates. `apart`: seconds between confusion matrices, which take a tenth of one to draw; the
    last is always drawn.
    """

    def __init__(self, images: int = 16, every: int = 10, apart: float = 5.0) -> None:
        self.images, self.every, self.apart = images, every, apart
        self._drawn = float("-inf")
        self._waiting: tuple[Tensor, int] | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw the images that the network is about to see, once, and log the rates."""
        first = trainer.global_step + batch_idx == 0
        input = learner(pl_module).backbone.input
        if first and isinstance(input, ImageInput) and (pictures := _given(trainer).pictures) is not None:
            grid = make_grid(input.restore(pictures[: self.images].float()), nrow=8)
            for writer in _writers(trainer):
                writer.add_image("train/images", grid, 0)
        if first and (sentences := _given(trainer).sentences):
            for writer in _writers(trainer):
                writer.add_text("train/texts", "\n\n".join(f"    {s[:500]}" for s in sentences), 0)
        if batch_idx == 0 or trainer.global_step % self.every == 0:
            for logger in trainer.loggers:  # not module.log: that keeps to its own steps and would drop these
                logger.log_metrics(rates(trainer, pl_module), trainer.global_step)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the validation split's confusion matrix, before the module resets it."""
        if time.monotonic() - self._drawn >= self.apart:
            self._draw(trainer, pl_module, "val")
        elif (confusion := learner(pl_module).meters("val")[1]) is not None:
            self._waiting = confusion.compute().cpu(), trainer.current_epoch

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the last confusion matrix if it is still to come."""
        if self._waiting:
            self._picture(trainer, pl_module, "val", *self._waiting)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the test split's confusion matrix."""
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule, split: str) -> None:
        if (confusion := learner(pl_module).meters(split)[1]) is not None:
            self._picture(trainer, pl_module, split, confusion.compute().cpu(), trainer.current_epoch)

    def _picture(
        self, trainer: L.Trainer, pl_module: L.LightningModule, split: str, counts: Tensor, epoch: int
    ) -> None:
        for writer in _writers(trainer):
            figure = confusion_figure(counts, learner(pl_module).classes)
            writer.add_figure(f"{split}/confusion", figure, epoch)
        self._drawn, self._waiting = time.monotonic(), None


def _given(trainer: L.Trainer) -> Any:
    return trainer.datamodule  # type: ignore[attr-defined]  # set by fit, but not declared


def rates(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, float]:
    """The rate of every stage and the head at this step; 0 for what never learns."""
    now = {optim.owner_of(g): float(g["lr"]) for g in trainer.optimizers[0].param_groups}
    return {f"rate/{name}": now.get(name, 0.0) for name in (*learner(pl_module).plan.stages, HEAD)}


def confusion_figure(counts: Tensor, classes: tuple[str, ...]) -> Figure:
    """A picture of a confusion matrix (C, C): shade by share of the true class, counts written in up to 30 classes."""
    n = len(classes)
    side = min(14.0, max(3.0, 0.34 * n + 1.1))  # in inches: letters stay large in a small card
    figure = Figure(figsize=(side, side), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if n <= 100:
        axes.set_xticks(range(n), labels=list(classes), rotation=90, parse_math=False)  # a name may hold dollars
        axes.set_yticks(range(n), labels=list(classes), parse_math=False)
    if n <= 30:
        for row, column in torch.nonzero(counts).tolist():
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", color=colour)
    return figure


def _writers(trainer: L.Trainer) -> Iterator[Any]:
    return (logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))
