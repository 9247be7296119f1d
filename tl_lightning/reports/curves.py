"""Rates, first samples and overviews beside Lightning's own scalars."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from tl_lightning import optim
from tl_lightning.learner import learner
from tl_lightning.reports import writers
from tl_lightning.reports.figures import FIGURES, tiles
from tl_lightning.strategies.plan import HEAD

_CHARTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "losses": {"loss": ("train/loss_epoch", "val/loss")},
    "stages": {
        "rate": ("rate/.*",),
        "similarity to what it was (CKA)": ("forgetting/cka/.*",),
        "distance of the weights": ("forgetting/distance/.*",),
    },
}


class Curves(Callback):
    """One rate curve per stage, the first training images or texts, and the task's picture.

    `every`: steps between rates. `share`: of the time, that pictures may take: one for every epoch, but where epochs
    pass in less than ten times what a picture takes; the last is always drawn.
    """

    def __init__(self, images: int = 16, every: int = 10, share: float = 0.1) -> None:
        self.images, self.every, self.share = images, every, share
        self._due = float("-inf")
        self._waiting: tuple[Tensor, int] | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Show the samples that the network is about to see, once, and log the rates."""
        if trainer.global_step + batch_idx == 0:
            writers.add_charts(trainer.loggers, _CHARTS)
            self._show_samples(trainer)
        if batch_idx == 0 or trainer.global_step % self.every == 0:
            for logger in trainer.loggers:  # not module.log: that keeps to its own steps and would drop these
                logger.log_metrics(rates(trainer, pl_module), trainer.global_step)

    def _show_samples(self, trainer: L.Trainer) -> None:
        if not writers.takes_pictures(trainer.loggers):
            return
        preview = trainer.datamodule.preview()  # type: ignore[attr-defined]  # set by fit, but not declared
        if preview.images is not None:
            writers.add_image(trainer.loggers, "train/images", tiles(preview.images[: self.images], preview.labels))
        if preview.texts:
            writers.add_text(trainer.loggers, "train/texts", "\n\n".join(f"    {t[:500]}" for t in preview.texts))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the validation split's picture, before the module resets what it is made of."""
        if time.monotonic() >= self._due:
            self._draw(trainer, pl_module, "val")
        elif (overview := learner(pl_module).meters("val")[1]) is not None:
            self._waiting = overview.compute().cpu(), _step_of_scores(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the last picture if it is still to come."""
        if self._waiting:
            self._picture(trainer, pl_module, "val", *self._waiting)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the test split's picture."""
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule, split: str) -> None:
        if (overview := learner(pl_module).meters(split)[1]) is not None:
            self._picture(trainer, pl_module, split, overview.compute().cpu(), _step_of_scores(trainer))

    def _picture(
        self, trainer: L.Trainer, pl_module: L.LightningModule, split: str, overview: Tensor, step: int
    ) -> None:
        task, began = learner(pl_module).task, time.monotonic()
        if writers.takes_pictures(trainer.loggers):
            figure = FIGURES[task.picture](overview, task.outputs)
            writers.add_figure(trainer.loggers, f"{split}/{task.picture}", figure, step)
        now = time.monotonic()
        self._due, self._waiting = now + (now - began) / self.share, None


def _step_of_scores(trainer: L.Trainer) -> int:
    """Where Lightning logs the scores of an evaluation: at the last step of the epoch while it fits."""
    return max(0, trainer.global_step - (trainer.state.fn == TrainerFn.FITTING))


def rates(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, float]:
    """The rate of every stage and the head at this step; 0 for what never learns."""
    now = {optim.owner_of(g): float(g["lr"]) for g in trainer.optimizers[0].param_groups}
    return {f"rate/{name}": now.get(name, 0.0) for name in (*learner(pl_module).plan.stages, HEAD)}
