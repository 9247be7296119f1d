"""Which images a process sees in an epoch: a pure function of seed, epoch and rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

from tl_lightning.errors import UserError

Key = tuple[int, int]  # (index, seed of the image's random transform)


def _rank_and_world() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


class EpochSampler(Sampler[Key]):
    """A fresh order every epoch, drawn by `weights` with replacement if they are given, shared out over ranks.

    Yields (index, transform seed), so that what a worker draws depends neither on the number of workers nor on
    what was drawn before. The trainer calls `set_epoch`.
    """

    def __init__(self, length: int, seed: int, weights: Tensor | None = None) -> None:
        self.length, self.seed, self.weights, self.epoch = length, seed, weights, 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that of `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // _rank_and_world()[1]

    def __iter__(self) -> Iterator[Key]:
        rank, world = _rank_and_world()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.weights is None:
            order = torch.randperm(self.length, generator=generator)
        else:
            order = torch.multinomial(self.weights, self.length, replacement=True, generator=generator)
        seeds = torch.randint(2**31, (self.length,), generator=generator)
        mine = slice(rank, len(self) * world, world)
        return zip(order[mine].tolist(), seeds[mine].tolist(), strict=True)


class EvalBatches(Sampler[list[Key]]):
    """Every image exactly once over all ranks, in as many batches on each; none is repeated.

    To come out even a batch may hold one image more than `batch_size`.
    """

    def __init__(self, length: int, batch_size: int) -> None:
        self.length, self.batch_size = length, batch_size

    def __len__(self) -> int:
        _, world = _rank_and_world()
        fewest = self.length // world  # on some rank; it must fill as many batches as the others
        if not fewest:
            raise UserError(f"{self.length} images to evaluate are too few for {world} processes: take fewer devices")
        return min(math.ceil(math.ceil(self.length / world) / self.batch_size), fewest)

    def __iter__(self) -> Iterator[list[Key]]:
        rank, world = _rank_and_world()
        for part in np.array_split(np.arange(rank, self.length, world), len(self)):
            yield [(int(i), 0) for i in part]


def balancing_weights(labels: Sequence[int]) -> Tensor:
    """A weight per image with which all classes are drawn equally often."""
    counts = torch.bincount(torch.as_tensor(labels)).clamp(min=1)
    return 1.0 / counts[torch.as_tensor(labels)].double()
