"""Which samples a process sees in an epoch: a pure function of seed, epoch and rank."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

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
        order = self.drawn(generator)
        seeds = torch.randint(2**31, (self.length,), generator=generator)
        mine = slice(rank, len(self) * world, world)
        return zip(order[mine].tolist(), seeds[mine].tolist(), strict=True)

    def drawn(self, generator: torch.Generator) -> Tensor:
        """The order of an epoch over all ranks (N,)."""
        if self.weights is None:
            return torch.randperm(self.length, generator=generator)
        return torch.multinomial(self.weights, self.length, replacement=True, generator=generator)


class WindowSampler(EpochSampler):
    """Every sample once an epoch, those that lie together (in a shard, say) not far from each other.

    The `units` (length,) of samples are shuffled, and of every `window` of them the samples: whoever holds so many
    units finds in them all that comes next.
    """

    def __init__(self, units: np.ndarray, seed: int, window: int) -> None:
        super().__init__(len(units), seed)
        self.window = window
        order = np.argsort(units, kind="stable")
        starts = np.flatnonzero(np.diff(units[order], prepend=-1))
        self.members = [torch.from_numpy(part) for part in np.split(order, starts[1:])]

    def drawn(self, generator: torch.Generator) -> Tensor:
        """The order of an epoch over all ranks (N,)."""
        units = torch.randperm(len(self.members), generator=generator).tolist()
        parts = []
        for start in range(0, len(units), self.window):
            together = torch.cat([self.members[unit] for unit in units[start : start + self.window]])
            parts.append(together[torch.randperm(len(together), generator=generator)])
        return torch.cat(parts)


class EpochLoader(DataLoader[Any]):
    """A DataLoader whose pass begins when its first batch is asked for, by when the sampler knows the epoch.

    Lightning asks for the iterator of a resumed run before it has read how far the run had come, and loader processes
    are told their first samples as soon as there is an iterator: those of epoch 0.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """What is drawn inside, by torch, numpy or Python, depends on `seed` alone; what is drawn afterwards not on it."""
    before = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not a GPU's, whose state is not forked
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before[0])
            random.setstate(before[1])


class LengthBatches(Sampler[list[Key]]):
    """Batches of samples of about one length, drawn by `sampler`: little of them is padding.

    Of every fifty batches' samples those of like length are put together; then the batches are shuffled. Their number
    is that of batches of `size` samples each; a remainder waits for another epoch.
    """

    POOL = 50

    def __init__(self, sampler: EpochSampler, lengths: np.ndarray, size: int) -> None:
        self.sampler, self.lengths, self.size = sampler, lengths, size

    def __len__(self) -> int:
        return len(self.sampler) // self.size

    def __iter__(self) -> Iterator[list[Key]]:
        keys = list(self.sampler)[: len(self) * self.size]
        batches: list[list[Key]] = []
        for start in range(0, len(keys), self.POOL * self.size):
            pool = sorted(keys[start : start + self.POOL * self.size], key=lambda key: self.lengths[key[0]])
            batches += [pool[i : i + self.size] for i in range(0, len(pool), self.size)]
        order = np.random.default_rng([self.sampler.seed, self.sampler.epoch]).permutation(len(batches))
        for i in order:  # a generator: the loader asks for its first batch after it has been told the epoch
            yield batches[i]


class EvalBatches(Sampler[list[Key]]):
    """Every sample exactly once over all ranks, in as many batches on each; none is repeated.

    To come out even a batch may hold one sample more than `batch_size`. `order` (length,): in which they come.
    """

    def __init__(self, length: int, batch_size: int, order: np.ndarray | None = None) -> None:
        self.length, self.batch_size, self.order = length, batch_size, np.arange(length) if order is None else order

    def __len__(self) -> int:
        _, world = _rank_and_world()
        fewest = self.length // world  # on some rank; it must fill as many batches as the others
        if not fewest:
            raise UserError(f"{self.length} samples to evaluate are too few for {world} processes: take fewer devices")
        return min(math.ceil(math.ceil(self.length / world) / self.batch_size), fewest)

    def __iter__(self) -> Iterator[list[Key]]:
        rank, world = _rank_and_world()
        for part in np.array_split(self.order[rank::world], len(self)):
            yield [(int(i), 0) for i in part]
