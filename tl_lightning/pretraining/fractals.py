"""Attractors of iterated function systems: the shapes that drawn images are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
MAPS = 4  # at most; systems of fewer leave the rest unused, at probability 0


@dataclass(frozen=True)
class Systems:
    """S systems of affine maps x -> Ax + b, of which a point takes one at random, again and again.

    `matrices` (S, MAPS, 2, 2), `offsets` (S, MAPS, 2), `probabilities` (S, MAPS).
    """

    matrices: Floats
    offsets: Floats
    probabilities: Floats

    def __len__(self) -> int:
        """How many systems."""
        return len(self.matrices)


def sample(count: int, seed: int) -> Systems:
    """`count` systems of 2 to 4 maps, all contractive by construction; the same ones for the same seed.

    A map is U diag(s1, s2) V with random rotations and reflections U and V and 1 > s1 >= s2, and a system's maps share
    out s1 + 2 s2 = 2.5 + n/2 to 3 + n/2 for n maps: the range whose attractors are neither dust nor blots (Anderson
    and Farrell, "Improving Fractal Pre-training", WACV 2022). A map is taken in proportion to the area it covers.
    """
    rng = np.random.default_rng(seed)
    maps = rng.integers(2, MAPS + 1, count)
    used = np.arange(MAPS) < maps[:, None]
    values = _singular_values(maps, rng)
    matrices = _orthogonal(rng, count) @ (values[..., None] * _orthogonal(rng, count))
    area = np.where(used, values.prod(-1) + 1e-3, 0)  # a map that flattens still happens
    return Systems(
        matrices.astype(np.float32),
        rng.uniform(-1, 1, (count, MAPS, 2)).astype(np.float32),
        (area / area.sum(1, keepdims=True)).astype(np.float32),
    )


def _singular_values(maps: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(S, MAPS, 2): one map after another takes a share of the sum that leaves the rest something they can reach."""
    left = 2.5 + maps / 2 + rng.uniform(0, 0.5, len(maps))
    values = np.zeros((len(maps), MAPS, 2))
    for i in range(MAPS):
        others = np.maximum(maps - i - 1, 0)
        share = np.where(i < maps, rng.uniform(np.clip(left - 3 * others, 0, 3), np.clip(left, 0, 3)), 0)
        second = rng.uniform(np.maximum(0, (share - 1) / 2), share / 3)
        values[:, i] = np.stack([share - 2 * second, second], 1)
        left = left - share
    return np.minimum(values, 0.995)  # strictly below 1: else a system of one dominant map need not converge


def _orthogonal(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(S, MAPS, 2, 2) random rotations, half of them with a reflection."""
    angle, flip = rng.uniform(-np.pi, np.pi, (count, MAPS)), rng.choice([-1.0, 1.0], (count, MAPS))
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin * flip], -1), np.stack([sin, cos * flip], -1)], -2)


def cloud(systems: Systems, index: int, rng: np.random.Generator, chains: int = 2048, kept: int = 6) -> Floats:
    """(chains * kept, 2) points of one attractor, 99 % of them in a box from -1 to 1 on its longer side."""
    points = orbit(systems, index, rng, chains, kept)
    low, high = np.quantile(points[:chains], (0.005, 0.995), axis=0)  # a few stray points do not make the rest small
    box = (2 * points - low - high) / max(float((high - low).max()), 1e-6)
    return np.asarray(box, np.float32)


def orbit(systems: Systems, index: int, rng: np.random.Generator, chains: int, kept: int) -> Floats:
    """(chains * kept, 2) points of one attractor, where they lie.

    The chaos game, played by many points at once: each begins on the attractor, at the fixed point of a map, and takes
    twelve steps before it counts.
    """
    matrices, offsets, chance = systems.matrices[index], systems.offsets[index], systems.probabilities[index]
    maps = int(np.count_nonzero(chance))
    fixed = np.linalg.solve(np.eye(2) - matrices[:maps].astype(np.float64), offsets[:maps, :, None])[..., 0]
    steps = 12 + kept
    taken = np.searchsorted(chance[:maps].cumsum()[:-1], rng.random((steps, chains), np.float32))
    table = np.concatenate([matrices.reshape(MAPS, 4), offsets], 1).T  # (6, MAPS): rows are gathered fast
    x, y = fixed.astype(np.float32)[taken[0]].T
    found = np.empty((kept, 2, chains), np.float32)
    for step in range(steps):
        a, b, c, d, e, f = table[:, taken[step]]
        x, y = a * x + b * y + e, c * x + d * y + f
        if step >= 12:
            found[step - 12] = x, y
    return found.transpose(0, 2, 1).reshape(-1, 2)
