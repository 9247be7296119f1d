"""Batches for the learner that begin at the boundary: rows of activations in place of images or texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tl_lightning.batch import Batch
from tl_lightning.data.datamodule import Preview
from tl_lightning.data.sampling import EpochLoader, Key
from tl_lightning.features.feature_source import FeatureSource
from tl_lightning.features.views import Choice


class Rows(Dataset[Batch]):
    """Activations (N, ...) of every view, on disk or in memory; a whole batch is asked for at once."""

    def __init__(self, views: Sequence[np.ndarray], targets: np.ndarray, choice: Choice | None = None) -> None:
        self.views, self.targets, self.choice = views, targets, choice

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Rows and targets of (index, seed) keys; the seed picks the view."""
        index = np.array([i for i, _ in keys])
        picked = np.array([self.choice.pick(seed) if self.choice else 0 for _, seed in keys])
        rows = np.empty((len(index), *self.views[0].shape[1:]), self.views[0].dtype)
        for k, view in enumerate(self.views):
            rows[picked == k] = view[index[picked == k]]
        return Batch(torch.from_numpy(rows), torch.from_numpy(self.targets[index]), torch.from_numpy(index))


class FeatureDataModule(L.LightningDataModule):
    """The splits of `data` as rows; order, batches and drawn views are those that the samples would have had."""

    def __init__(self, data: FeatureSource, rows: Mapping[str, Sequence[np.ndarray]], choice: Choice) -> None:
        super().__init__()
        self.data, self.rows, self.choice = data, rows, choice

    def preview(self) -> Preview:
        """The first training samples under the views that are kept."""
        views = self.choice.views
        return self.data.preview_of(views, self.data.dataset("train", views[0].transform))

    def names(self, split: str, index: Sequence[int]) -> list[str]:
        """What the samples at these places of a split are called."""
        return self.data.names(split, index)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled (or balanced) batches of one size."""
        return self._loader("train", **self.data.train_batches())

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation row once."""
        return self._loader("val", batch_sampler=self.data.eval_batches("val"))

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test row once."""
        return self._loader("test", batch_sampler=self.data.eval_batches("test"))

    def _loader(self, split: str, **order: Any) -> DataLoader[Any]:
        rows = Rows(self.rows[split], self.data.samples.targets(split), self.choice if split == "train" else None)
        pin, generator = torch.cuda.is_available(), torch.Generator()  # the generator as in LabelledData
        return EpochLoader(rows, pin_memory=pin, generator=generator, collate_fn=_as_it_is, **order)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Single precision, as the network likes it in memory."""
        return batch.with_inputs(self.data.to_memory_format(batch.inputs.float()))  # type: ignore[union-attr]


def _as_it_is(batch: Any) -> Any:
    return batch
