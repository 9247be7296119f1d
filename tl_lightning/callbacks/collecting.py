"""The outputs of an evaluation that is made anyway, for whoever wants more of them than scores."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from tl_lightning.batch import Batch
from tl_lightning.learner import learner


class Collect(Callback):
    """Keeps the outputs (N, C) of each split's last evaluation, and features of every so many samples of val (0: none).

    On one device; of several, each has a part of the samples, and nothing is kept.
    """

    def __init__(self, every: int = 0) -> None:
        self.every = every
        self._rows: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        self._features: list[tuple[Tensor, Tensor]] = []
        self._entered: Tensor | None = None
        self._hook: torch.utils.hooks.RemovableHandle | None = None

    def outputs(self) -> dict[str, Tensor]:
        """(N, C) by split, in the order of its samples."""
        found = {split: _in_order(rows) for split, rows in self._rows.items() if rows}
        return {split: values for split, values in found.items() if values is not None}

    def features(self) -> tuple[Tensor, Tensor] | None:
        """Places (M,) in val, and features (M, D) there; None if there are none."""
        if not self._features:
            return None
        places, rows = zip(*self._features, strict=True)
        return torch.cat(places), torch.cat(rows)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin anew."""
        self._rows["val"], self._features = [], []
        if self.every and trainer.world_size == 1:
            self._hook = learner(pl_module).head.register_forward_pre_hook(self._look)

    def _look(self, head: Any, given: tuple[Tensor]) -> None:
        self._entered = given[0]

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what concerns one batch."""
        self._keep(trainer, "val", outputs, batch)
        if self._entered is not None:
            picked = batch.index % self.every == 0
            self._features.append((batch.index[picked].cpu(), self._entered[picked].detach().float().cpu()))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look no more."""
        if self._hook:
            self._hook.remove()
        self._hook = self._entered = None

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin anew."""
        self._rows["test"] = []

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what concerns one batch."""
        self._keep(trainer, "test", outputs, batch)

    def _keep(self, trainer: L.Trainer, split: str, outputs: Any, batch: Batch) -> None:
        if trainer.world_size == 1:
            self._rows[split].append((batch.index.cpu(), outputs.detach().float().cpu()))


def _in_order(rows: list[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Values (N, C) by their places; None where some were left out (limit_val_batches)."""
    places, values = (torch.cat(parts) for parts in zip(*rows, strict=True))
    if len(places) != int(places.max()) + 1:
        return None
    found = torch.empty_like(values)
    found[places] = values
    return found
