"""What image and text data have in common: batches of labelled samples, in an order that depends on the seed alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tl_lightning.batch import Batch, Inputs
from tl_lightning.data.issues import Issue, issues_of
from tl_lightning.data.loader_options import Loading
from tl_lightning.data.samples import Samples
from tl_lightning.data.sampling import EpochSampler, EvalBatches
from tl_lightning.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variation:
    """How training samples differ from epoch to epoch.

    `mirrored`: the probability of a mirror image. `drawn`: the random transform, if there is one beside that; `light`:
    it changes little of which a head alone makes anything. `batches`: something is done to whole batches.
    """

    mirrored: float = 0.0
    drawn: Any = None
    light: bool = True
    batches: bool = False


@dataclass(frozen=True)
class Preview:
    """The first training samples as the network is given them: images (N, 3, H, W) in [0, 1] with labels, or texts."""

    images: Tensor | None = None
    labels: Sequence[str] = ()
    texts: Sequence[str] = ()


class LabelledData(L.LightningDataModule):
    """The splits of labelled samples, in batches.

    `prefix`, if set, runs on every batch: the frozen part of a network. What a subclass must set or write is declared
    here without a value or raises NotImplementedError. Raises UserError for options that the task has no meaning for.
    """

    input: Any  # an ImageInput or a TextInput
    workers: int | None
    pass_batch: int  # samples at once on a CPU, where nothing is trained
    eval_transform: Any  # of evaluation: `prepare`, then `finish`, both the same every time
    whole_transform: Any = None  # gives samples as files hold them
    train_transform: Any  # of training, without anything random
    described_as: Mapping[str, Any] = {}  # options that say what was made, where they are others than those given
    reading: str = ""  # how files are read, where that changes what is read

    def __init__(self, samples: Samples, loading: Loading) -> None:
        super().__init__()
        self.samples, self.sampler, self.seed = samples, loading.sampler, loading.seed
        self.batch_size, train = loading.batch_size, samples.size("train")
        if self.batch_size > train:
            log.warning(
                f"data.batch_size={self.batch_size}: there are {train} training {samples.noun}, which make one batch"
            )
            self.batch_size = train
        self.task = samples.task.fitted(samples.targets("train"), loading.sampler, loading.class_weights)
        self.weights = samples.weights_of("train")
        self.prefix: Callable[[Inputs], Tensor] | None = None

    def names(self, split: str, index: Sequence[int]) -> list[str]:
        """What the samples at these places of a split are called."""
        used = self.samples.used(split)
        return [used[i].path for i in index]

    def issues(self) -> Iterator[Issue]:
        """What is wrong with the samples as far as reading them tells."""
        yield from issues_of(self.samples)

    def remark(self) -> str:
        """What people should know of how the network is given the samples; empty if nothing is odd."""
        return ""

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return self.samples.size("test") > 0

    @property
    def variation(self) -> Variation:
        """How training samples differ from epoch to epoch: not at all."""
        return Variation()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled (or balanced) batches of one size; a remainder too small for one waits for another epoch."""
        raise NotImplementedError

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation sample once."""
        return self.eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Every test sample once."""
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> DataLoader[Batch]:
        """Every sample of a split once."""
        raise NotImplementedError

    def preview(self) -> Preview:
        """The first training samples; called once training has begun."""
        raise NotImplementedError

    def preview_of(self, views: Sequence[Callable[[Any, int], Any]], dataset: Any) -> Preview:
        """The first training samples under fixed views (callables of a prepared sample and its place)."""
        return self.preview()

    def dataset(self, split: str, transform: Any) -> Any:
        """A split's samples for one pass, of which nothing is kept: `prepared(i)` is what the transform finishes."""
        raise NotImplementedError

    def pass_order(self, split: str) -> np.ndarray:
        """(N,): in which order a split is gone through once."""
        return np.arange(self.samples.size(split))

    def enough_workers(self, dataset: Any) -> int:
        """Loader processes that keep a network busy, where `workers` does not say."""
        return 0

    def digests(self, split: str) -> list[str]:
        """Of every sample of a split, in order: differs where the network is given something else."""
        raise NotImplementedError

    def stack(self, samples: Sequence[Any]) -> Inputs:
        """Samples as one batch: (N, ...), or (N, T) by name."""
        raise NotImplementedError

    def to_memory_format(self, rows: Tensor) -> Tensor:
        """Kept activations (N, ...) as the network likes them in memory."""
        return rows

    def order(self) -> EpochSampler:
        """In which training samples are drawn. Raises UserError if a process has fewer of them than a batch holds."""
        targets = self.samples.targets("train")
        weights = self.task.sample_weights(targets) if self.sampler == "balanced" else None
        if self.weights is not None:
            weights = torch.from_numpy(self.weights) * (1 if weights is None else weights)
        order = EpochSampler(len(targets), self.seed, weights)
        if len(order) < self.batch_size:
            raise UserError(
                f"data.batch_size={self.batch_size}: each process has {len(order)} training {self.samples.noun}, take "
                "at most that"
            )
        return order

    def train_batches(self) -> dict[str, Any]:
        """What tells a loader which samples to draw: batches of one size; a remainder waits for another epoch."""
        return {"sampler": self.order(), "batch_size": self.batch_size, "drop_last": True}

    def eval_batches(self, split: str) -> EvalBatches:
        """In which a split is evaluated: twice as many samples at once as in training, for nothing is kept of them."""
        return EvalBatches(self.samples.size(split), 2 * self.batch_size, self.pass_order(split))

    def collate(self, samples: Sequence[tuple[Any, Any, int]]) -> Batch:
        """(sample, target, place) of each as a batch."""
        inputs, targets, index = zip(*samples, strict=True)
        return Batch(self.stack(inputs), torch.from_numpy(np.stack(targets)), torch.tensor(index))

    def loader_options(self) -> dict[str, Any]:
        """What all loaders are told."""
        return {
            "pin_memory": torch.cuda.is_available(),
            "generator": torch.Generator(),  # else a new iterator draws from the state that dropout draws from
        }

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Run the frozen prefix if there is one."""
        return batch.with_inputs(self.prefix(batch.inputs)) if self.prefix else batch
