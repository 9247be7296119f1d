"""What can be seen of a pretraining: the images that are drawn, and a line per epoch."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torchvision.utils import make_grid

from tl_lightning.pretraining.data import DrawnImages
from tl_lightning.reports import writers

log = logging.getLogger(__name__)


class Watch(Callback):
    """A grid of each epoch's first images in TensorBoard, and a line with its losses and its pace."""

    def __init__(self, images: int = 64) -> None:
        self.images, self._began = images, 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Show the first batch of an epoch."""
        if batch_idx == 0:
            grid = make_grid(batch[0][: self.images], nrow=8)
            writers.add_image(trainer.loggers, "drawn", grid, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the line."""
        seen = trainer.callback_metrics  # read by all ranks: their means are taken on reading
        if not trainer.is_global_zero:
            return
        data = drawn(trainer)
        place = trainer.current_epoch, trainer.max_epochs or 1
        log.info(
            f"epoch {place[0]:3d}  {data.size(*place)} px  difficulty {data.difficulty(*place):.2f}  "
            + "".join(f"{name} {seen[f'train/{name}_epoch']:.4f}  " for name in ("loss", "description", "hits"))
            + f"{data.views / (time.perf_counter() - self._began):.0f} images/s"
        )


def drawn(trainer: L.Trainer) -> DrawnImages:
    """The trainer's images."""
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by fit, but not declared
    assert isinstance(data, DrawnImages)
    return data
