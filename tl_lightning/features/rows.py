"""Batches for the learner that begin at the boundary: rows of activations in place of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tl_lightning.data.datamodule import ImageDataModule
from tl_lightning.data.sampling import Key
from tl_lightning.features.views import Choice

Batch = tuple[Tensor, Tensor]


class Rows(Dataset[Batch]):
    """Activations (N, ...) of every view, on disk or in memory; a whole batch is asked for at once."""

    def __init__(self, views: Sequence[np.ndarray], labels: Sequence[int], choice: Choice | None = None) -> None:
        self.views, self.labels, self.choice = views, np.asarray(labels), choice

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Rows and labels of (index, seed) keys; the seed picks the view."""
        index = np.array([i for i, _ in keys])
        picked = np.array([self.choice.pick(seed) if self.choice else 0 for _, seed in keys])
        rows = np.empty((len(index), *self.views[0].shape[1:]), self.views[0].dtype)
        for k, view in enumerate(self.views):
            rows[picked == k] = view[index[picked == k]]
        return torch.from_numpy(rows), torch.from_numpy(self.labels[index])


class FeatureDataModule(L.LightningDataModule):
    """The splits of `images` as rows; order, batches and drawn views are those that the images would have had."""

    def __init__(self, images: ImageDataModule, rows: Mapping[str, Sequence[np.ndarray]], choice: Choice) -> None:
        super().__init__()
        self.images, self.rows, self.choice = images, rows, choice

    @property
    def pictures(self) -> Tensor:
        """Normalised images (N, 3, H, W): the views of the first training images."""
        views = self.choice.views
        few = self.images.images("train", views[0].transform, keep=False)
        shown = range(min(len(few), max(1, 16 // len(views))))
        pixels = [view(few.prepared(i), i) for i in shown for view in views[:16]]
        return self.images.input.normalise(torch.stack(pixels))

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled (or balanced) batches of one size."""
        order = self.images.order()
        return self._loader("train", sampler=order, batch_size=self.images.batch_size, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation row once."""
        return self._loader("val", batch_sampler=self.images.batches("val"))

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test row once."""
        return self._loader("test", batch_sampler=self.images.batches("test"))

    def _loader(self, split: str, **order: Any) -> DataLoader[Any]:
        labels = [label for _, label in self.images.folder.split(split)]
        rows = Rows(self.rows[split], labels, self.choice if split == "train" else None)
        pin, generator = torch.cuda.is_available(), torch.Generator()  # the generator as in ImageDataModule
        return DataLoader(rows, pin_memory=pin, generator=generator, collate_fn=_as_it_is, **order)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Single precision, and channels_last for feature maps."""
        rows, labels = batch
        rows = rows.float()
        rows = rows.contiguous(memory_format=torch.channels_last) if rows.ndim == 4 else rows
        return rows, labels


def _as_it_is(batch: Any) -> Any:
    return batch
