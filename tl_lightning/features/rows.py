"""Batches for the learner that begin at the boundary: rows of activations in place of images or texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tl_lightning.data.datamodule import ImageDataModule
from tl_lightning.data.labelled import LabelledData
from tl_lightning.data.sampling import Key
from tl_lightning.features.views import Choice

Batch = tuple[Tensor, Tensor]


class Rows(Dataset[Batch]):
    """Activations (N, ...) of every view, on disk or in memory; a whole batch is asked for at once."""

    def __init__(self, views: Sequence[np.ndarray], labels: np.ndarray, choice: Choice | None = None) -> None:
        self.views, self.labels, self.choice = views, labels, choice

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
    """The splits of `data` as rows; order, batches and drawn views are those that the samples would have had."""

    def __init__(self, data: LabelledData, rows: Mapping[str, Sequence[np.ndarray]], choice: Choice) -> None:
        super().__init__()
        self.data, self.rows, self.choice = data, rows, choice

    @property
    def sentences(self) -> Sequence[str]:
        """The first training texts, for people."""
        return self.data.sentences

    @property
    def pictures(self) -> Tensor | None:
        """Normalised images (N, 3, H, W): the views of the first training images; None of texts."""
        if not isinstance(self.data, ImageDataModule):
            return None
        views = self.choice.views
        few = self.data.looks("train", views[0].transform)
        shown = range(min(len(few), max(1, 16 // len(views))))
        pixels = [view(few.prepared(i), i) for i in shown for view in views[:16]]
        normalised: Tensor = self.data.input.normalise(torch.stack(pixels))
        return normalised

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled (or balanced) batches of one size."""
        return self._loader("train", **self.data.train_batches())

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation row once."""
        return self._loader("val", batch_sampler=self.data.batches("val"))

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test row once."""
        return self._loader("test", batch_sampler=self.data.batches("test"))

    def _loader(self, split: str, **order: Any) -> DataLoader[Any]:
        rows = Rows(self.rows[split], self.data.folder.labels(split), self.choice if split == "train" else None)
        pin, generator = torch.cuda.is_available(), torch.Generator()  # the generator as in ImageDataModule
        return DataLoader(rows, pin_memory=pin, generator=generator, collate_fn=_as_it_is, **order)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Single precision, as the network likes it in memory."""
        rows, labels = batch
        return self.data.placed(rows.float()), labels


def _as_it_is(batch: Any) -> Any:
    return batch
