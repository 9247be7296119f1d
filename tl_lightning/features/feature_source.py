"""What computing features asks of data: a LabelledData gives it, and whatever else has the same attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from tl_lightning.batch import Inputs
from tl_lightning.data.datamodule import Preview, Variation
from tl_lightning.tasks.task import Task

if TYPE_CHECKING:
    from tl_lightning.data.sampling import EvalBatches


class Dataset(Protocol):
    """A split's samples under one transform. `longest` is the place of the longest sample, `length` its length."""

    longest: int
    length: int

    def __len__(self) -> int: ...

    def prepared(self, index: int) -> Any:
        """What the transform finishes."""


class Samples(Protocol):
    """How many samples there are, and what they are."""

    root: Path
    noun: str

    def size(self, split: str) -> int:
        """Of a split."""

    def targets(self, split: str) -> np.ndarray:
        """(N,) or (N, C)."""

    def counts(self, split: str) -> list[int]:
        """Of each output."""


class FeatureSource(Protocol):
    """Data that a frozen network can be run over, split by split."""

    samples: Any  # Samples; a frozen dataclass is no subtype of a protocol with attributes
    task: Task
    input: Any  # ImageInput or TextInput
    batch_size: int
    workers: int | None
    pass_batch: int
    eval_transform: Any
    train_transform: Any
    reading: str
    prefix: Callable[[Inputs], Tensor] | None

    @property
    def variation(self) -> Variation:
        """How training samples differ from epoch to epoch."""

    def names(self, split: str, index: Sequence[int]) -> list[str]:
        """What the samples at these places of a split are called."""

    def dataset(self, split: str, transform: Any) -> Any:
        """A Dataset of one pass."""

    def pass_order(self, split: str) -> np.ndarray:
        """(N,): in which order a split is gone through once."""

    def enough_workers(self, dataset: Any) -> int:
        """Loader processes that keep a network busy, where `workers` does not say."""

    def digests(self, split: str) -> list[str]:
        """Of every sample of a split, in order."""

    def stack(self, samples: Sequence[Any]) -> Inputs:
        """Samples as one batch: (N, ...), or (N, T) by name."""

    def to_memory_format(self, rows: Tensor) -> Tensor:
        """Kept activations (N, ...) as the network likes them in memory."""

    def train_batches(self) -> dict[str, Any]:
        """What tells a loader which samples to draw."""

    def eval_batches(self, split: str) -> EvalBatches:
        """In which a split is evaluated."""

    def preview_of(self, views: Sequence[Callable[[Any, int], Any]], dataset: Any) -> Preview:
        """The first training samples under fixed views."""
