"""What image and text data have in common: splits of labelled samples, their order, and what each class weighs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tl_lightning.data.sampling import EpochSampler, EvalBatches, balancing_weights
from tl_lightning.data.splits import Item
from tl_lightning.data.transforms import Augment
from tl_lightning.errors import UserError, nearest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collection:
    """Labelled samples in splits: the images of a folder, the texts of a file. `noun`: what they are, for people.

    One class index for all splits; what cannot be used is set aside with its reason. `separator`: stands between the
    classes of a sample that may have several, or none; empty: each has one.
    """

    root: Path
    items: tuple[Item, ...]
    classes: tuple[str, ...]
    separator: str = field(default="", kw_only=True)
    noun: ClassVar[str]

    @property
    def multi(self) -> bool:
        """Whether a sample may have several classes."""
        return bool(self.separator)

    def sample(self, item: Item) -> Any:
        """What a split holds of an item."""
        raise NotImplementedError

    def used(self, split: str) -> list[Item]:
        """A split's usable items."""
        return [i for i in self.items if i.split == split and not i.skipped]

    def split(self, name: str) -> list[tuple[Any, Any]]:
        """(sample, class index) of a split's usable items, or with several classes (sample, 0 or 1 for each)."""
        index = {c: i for i, c in enumerate(self.classes)}
        if not self.multi:
            return [(self.sample(i), index[i.label]) for i in self.used(name)]
        eye = np.eye(len(self.classes), dtype=np.float32)
        return [(self.sample(i), eye[[index[c] for c in self.names(i)]].sum(0)) for i in self.used(name)]

    def names(self, item: Item) -> list[str]:
        """The classes of an item."""
        return several(item.label, self.separator) if self.multi else [item.label]

    def labels(self, name: str) -> np.ndarray:
        """(N,) class indices of a split's usable items, in the order of `split`; (N, C) with several classes."""
        return np.array([label for _, label in self.split(name)])

    def size(self, split: str) -> int:
        """Usable items in a split."""
        return len(self.used(split))

    def counts(self, split: str) -> list[int]:
        """Usable items of each class in a split."""
        found = Counter(name for i in self.used(split) for name in self.names(i))
        return [found[c] for c in self.classes]

    @property
    def skipped(self) -> list[Item]:
        """The items that cannot be used."""
        return [i for i in self.items if i.skipped]


def several(label: str, separator: str) -> list[str]:
    """The classes that stand in one cell, each once, sorted."""
    return sorted({c.strip() for c in label.split(separator)} - {""})


class LabelledData(L.LightningDataModule):
    """The splits of a collection, in batches.

    `sampler`: "none" or "balanced". `seed` draws the order. `prefix`, if set, runs on every batch: the frozen part of a
    network. `pictures`: the first training images as the network sees them, if they are images; `sentences`: the first
    texts. `draft`: whether files may be read at a fraction of their size.
    """

    folder: Any  # a Collection
    input: Any
    augment: Augment
    workers: int | None
    draft: bool
    sentences: Sequence[str]
    pass_batch: int  # samples at once on a CPU, where nothing is trained
    stack: Callable[[Sequence[Tensor]], Tensor]  # samples to one batch
    still: Any  # the evaluation's transform
    still_train: Any  # the training's, without anything random

    def __init__(
        self,
        folder: Collection,
        batch_size: int,
        sampler: str,
        class_weights: str | Mapping[Any, float] | None,
        seed: int,
    ) -> None:
        super().__init__()
        train = folder.size("train")
        if batch_size < 1:
            raise UserError(f"data.batch_size={batch_size} must be at least 1")
        if batch_size > train:
            log.warning(f"data.batch_size={batch_size}: there are {train} training {folder.noun}, which make one batch")
            batch_size = train
        if sampler not in ("none", "balanced"):
            raise UserError(f"data.sampler={sampler} is unknown: use none or balanced")
        if sampler == "balanced" and class_weights == "auto":
            raise UserError(
                "data.sampler=balanced and data.class_weights=auto correct the same twice: take one of them"
            )
        if folder.multi and (sampler == "balanced" or class_weights not in ("none", None)):
            raise UserError("data.sampler and data.class_weights are for samples of one class each: leave them out")
        self.folder, self.batch_size, self.sampler, self.seed = folder, batch_size, sampler, seed
        self.class_weights = loss_weights(class_weights, folder)
        self.prefix: Any = None
        self.pictures: Tensor | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their indices."""
        classes: tuple[str, ...] = self.folder.classes
        return classes

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return any(self.folder.counts("test"))

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation sample once."""
        return self.eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test sample once."""
        return self.eval_loader("test")

    def eval_loader(self, split: str) -> DataLoader[Any]:
        """Every sample of a split once."""
        raise NotImplementedError

    def looks(self, split: str, transform: Any) -> Any:
        """A split's samples for one pass, of which nothing is kept: `prepared(i)` is what the transform finishes."""
        raise NotImplementedError

    def pass_order(self, split: str) -> np.ndarray:
        """(N,): in which order a split is looked at once."""
        raise NotImplementedError

    def digests(self, split: str) -> list[str]:
        """Of every sample of a split, in order: differs where the network is given something else."""
        raise NotImplementedError

    def placed(self, rows: Tensor) -> Tensor:
        """Kept activations as the network likes them in memory."""
        raise NotImplementedError

    def order(self) -> EpochSampler:
        """In which training samples are drawn. UserError if a process has fewer of them than a batch holds."""
        labels = self.folder.labels("train")
        order = EpochSampler(len(labels), self.seed, balancing_weights(labels) if self.sampler == "balanced" else None)
        if len(order) < self.batch_size:
            raise UserError(
                f"data.batch_size={self.batch_size}: each process has {len(order)} training {self.folder.noun}, take "
                "at most that"
            )
        return order

    def train_batches(self) -> dict[str, Any]:
        """What tells a loader which samples to draw: batches of one size; a remainder waits for another epoch."""
        return {"sampler": self.order(), "batch_size": self.batch_size, "drop_last": True}

    def batches(self, split: str) -> EvalBatches:
        """In which a split is evaluated: twice as many samples at once as in training, for nothing is kept of them."""
        return EvalBatches(len(self.folder.split(split)), 2 * self.batch_size)

    def emphasis(self) -> Tensor:
        """What a sample of each class (C,) weighs in training, by loss weights and by sampling; mean 1 over samples."""
        if self.folder.multi:
            return torch.ones(len(self.classes))
        counts = torch.tensor(self.folder.counts("train"), dtype=torch.float32)
        return self.prior() * counts.sum() / counts

    def prior(self) -> Tensor:
        """Class probabilities (C,) as the training loss sees them; with several classes, the odds of each."""
        counts = torch.tensor(self.folder.counts("train"), dtype=torch.float32)
        if self.folder.multi:
            odds: Tensor = (counts + 0.5) / (self.folder.size("train") - counts + 0.5)
            return odds
        seen = torch.ones_like(counts) if self.sampler == "balanced" else counts
        seen = seen if self.class_weights is None else seen * self.class_weights
        return seen / seen.sum()


def loss_weights(choice: str | Mapping[Any, float] | None, folder: Collection) -> Tensor | None:
    """Weights (C,) of mean 1 over training samples: "none" (None), "auto" (inverse frequency), or by class name."""
    counts = torch.tensor(folder.counts("train"), dtype=torch.float32)
    if choice in ("none", None):
        return None
    if choice == "auto":
        weights = 1 / counts
    elif isinstance(choice, str):
        raise UserError(f"data.class_weights={choice} is unknown: use none, auto or {{class: weight}}")
    else:
        named = {str(name): float(weight) for name, weight in (choice or {}).items()}  # YAML reads 0 as a number
        if unknown := [name for name in named if name not in folder.classes]:
            raise UserError(f"data.class_weights names the class '{unknown[0]}': {nearest(unknown[0], folder.classes)}")
        weights = torch.tensor([named.get(c, 1.0) for c in folder.classes])
        if weights.min() <= 0:
            raise UserError("data.class_weights must be positive")
    return weights * counts.sum() / (weights * counts).sum()
