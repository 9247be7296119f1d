"""A stream of drawn images: attractors of iterated function systems over a background."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tl_lightning.pretraining import fractals, noise

Bytes = NDArray[np.uint8]
Batch = tuple[Tensor, Tensor]
T = TypeVar("T")


class Pool(Generic[T]):
    """Drawn parts that many images share; every `period`-th one taken is replaced by a fresh one.

    Drawing a part costs more than putting it into a picture, so the stream is never short of new pictures (the device
    of Anderson and Farrell's generator).
    """

    def __init__(self, draw: Callable[[], T], size: int, period: int, rng: np.random.Generator) -> None:
        self.draw, self.period, self.rng, self.taken = draw, period, rng, 0
        self.parts = [draw() for _ in range(size)]

    def take(self) -> T:
        """A part at random."""
        self.taken += 1
        if self.taken % self.period == 0:
            self.parts[self.taken // self.period % len(self.parts)] = self.draw()
        return self.parts[self.rng.integers(len(self.parts))]


class Artist:
    """Draws images of `size` pixels: attractors of `systems` over grounds of `materials`, from one random stream.

    `difficulty` from 0 (one large attractor in the middle, on a plain ground) to 1 (up to four, small, cut off, on a
    background as rich as they are): a network that is shown the latter first learns nothing for a long time.
    Attractors keep their orientation, for the same reason.
    """

    def __init__(
        self,
        systems: fractals.Systems,
        materials: noise.Materials,
        size: int,
        rng: np.random.Generator,
        difficulty: float = 1.0,
        pool: int = 512,
    ) -> None:
        self.systems, self.materials = systems, materials
        self.size, self.rng, self.difficulty = size, rng, difficulty
        self.clouds = Pool(self._cloud, pool, 8, rng)
        self.grounds = Pool(self._ground, pool, 16, rng)

    def _cloud(self) -> tuple[int, fractals.Floats]:
        index = int(self.rng.integers(len(self.systems)))
        return index, fractals.cloud(self.systems, index, self.rng)

    def _ground(self) -> tuple[int, noise.Floats]:
        index = int(self.rng.integers(len(self.materials)))
        return index, noise.field(self.materials, index, self.size, self.rng)

    def scene(self) -> tuple[Bytes, list[int]]:
        """An image (3, size, size) of one to four attractors over a ground, and the numbers of their systems."""
        material, field = self.grounds.take()
        colours = noise.colours(self.materials, material, self.rng)
        middle = colours[128]
        colours = (middle + self.difficulty * (colours.astype(np.float32) - middle)).astype(np.uint8)
        image = np.ascontiguousarray(colours[(field * 255).astype(np.uint8)].transpose(2, 0, 1))
        present = []
        for _ in range(1 + self.rng.integers(0, 1 + round(3 * self.difficulty))):
            index, points = self.clouds.take()
            surface, field = self.grounds.take()
            present.append(index)
            self._put(image, points, surface, field)
        return self._softened(image), present

    def _put(self, image: Bytes, points: fractals.Floats, surface: int, field: fractals.Floats) -> None:
        """Draw an attractor at a random place; difficult ones are 0.25 to 0.75 of the image wide and may be cut off."""
        rng, size, d = self.rng, self.size, self.difficulty
        width = rng.uniform(0.7 - 0.45 * d, 1 - 0.25 * d) * size
        points = points[: int(3 * width * width)]  # as dense at every width
        middle = size * rng.uniform(0.35 - 0.35 * d, 0.65 + 0.35 * d, 2)
        column, row = (points * np.float32(width / 2) + middle.astype(np.float32)).T.astype(np.int32)
        inside = (column > 0) & (column < size) & (row > 0) & (row < size)
        counts = np.bincount(row[inside] * size + column[inside], minlength=size * size)
        hit = counts.nonzero()[0]
        if len(hit):
            density = np.log1p(counts[hit])
            relief = density / density.max()
            grain = field.ravel()[hit]
            codes = (255 * (relief + d * rng.random() * (grain - relief))).astype(np.uint8)
            image.reshape(3, -1)[:, hit] = noise.colours(self.materials, surface, rng)[codes].T

    def _softened(self, image: Bytes) -> Bytes:
        """Two thirds of the images less sharp: halved and doubled again, or through a binomial filter of 3 pixels."""
        kind = self.rng.integers(3)
        if kind == 0:
            return image
        if kind == 1:
            half = image.reshape(3, self.size // 2, 2, self.size // 2, 2).mean((2, 4)).astype(np.uint8)
            image = half.repeat(2, 1).repeat(2, 2)
        wide = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.uint16)
        wide = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
        return np.asarray((wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]) // 16, np.uint8)


@dataclass(eq=False)
class Stream(IterableDataset[Batch]):
    """`batches` batches of drawn images: a pure function of the seeds and the worker.

    A batch is images (N, 3, size, size) in bytes, and which of S systems they show (N, S).
    """

    systems: fractals.Systems
    materials: noise.Materials
    size: int
    batches: int
    batch_size: int
    difficulty: float
    seed: tuple[int, ...]

    def __iter__(self) -> Iterator[Batch]:
        """This worker's share of the batches."""
        worker = get_worker_info()
        index, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        rng = np.random.default_rng([*self.seed, index])
        artist = Artist(self.systems, self.materials, self.size, rng, self.difficulty)
        for _ in range(index, self.batches, workers):
            yield self.batch(artist)

    def __len__(self) -> int:
        """How many batches."""
        return self.batches

    def batch(self, artist: Artist) -> Batch:
        """One batch."""
        scenes = [artist.scene() for _ in range(self.batch_size)]
        shown = torch.zeros(len(scenes), len(self.systems))
        for row, (_, present) in enumerate(scenes):
            shown[row, present] = 1
        return torch.from_numpy(np.stack([image for image, _ in scenes])), shown
