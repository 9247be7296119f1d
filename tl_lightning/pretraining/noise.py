"""Coloured fields of noise: the grounds that drawn images have, each of some material."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Materials:
    """M kinds of ground: how rough, how much longer in which direction, and of which colours (HSV); each array (M,).

    A material's colours run from `hue` on over `run` of the colour circle while brightness goes from `low` to `high`.
    """

    slope: Floats
    stretch: Floats
    angle: Floats
    hue: Floats
    run: Floats
    saturation: Floats
    low: Floats
    high: Floats

    def __len__(self) -> int:
        """How many materials."""
        return len(self.slope)


def sample(count: int, seed: int) -> Materials:
    """`count` materials, the same ones for the same seed."""
    rng = np.random.default_rng([seed, 1])

    def uniform(low: float, high: float) -> Floats:
        return rng.uniform(low, high, count).astype(np.float32)

    return Materials(
        slope=uniform(1, 2.2),
        stretch=np.exp(uniform(0, 1.6)),
        angle=uniform(0, np.pi),
        hue=uniform(0, 1),
        run=uniform(-0.5, 0.5),
        saturation=uniform(0, 1),
        low=uniform(0.1, 1),
        high=uniform(0.1, 1),
    )


def field(materials: Materials, index: int, size: int, rng: np.random.Generator) -> Floats:
    """(size, size) values from 0 to 1, evenly spread: white noise divided by frequency to the power of the slope.

    Natural images have such spectra, of a slope near 1 in amplitude (Ruderman and Bialek, 1994).
    """
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    cos, sin = np.cos(materials.angle[index]), np.sin(materials.angle[index])
    frequency = np.hypot(cos * rows + sin * columns, materials.stretch[index] * (cos * columns - sin * rows))
    decay = np.maximum(frequency, 1 / size) ** -materials.slope[index]
    wave = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * decay, (size, size))
    ranks = np.empty(size * size, np.float32)
    ranks[wave.ravel().argsort()] = np.linspace(0, 1, size * size, dtype=np.float32)
    return ranks.reshape(size, size)


def colours(materials: Materials, index: int, rng: np.random.Generator) -> Bytes:
    """(256, 3) colours of values from 0 to 1, a little different each time."""
    shift = rng.uniform(-1, 1, 4)
    saturation = np.clip(materials.saturation[index] + 0.1 * shift[0], 0, 1)
    low, high = np.clip((materials.low[index] + 0.1 * shift[1], materials.high[index] + 0.1 * shift[2]), 0, 1)
    return palette(materials.hue[index] + 0.03 * shift[3], materials.run[index], saturation, low, high)


def palette(hue: float, run: float, saturation: float, low: float, high: float) -> Bytes:
    """(256, 3) colours of values from 0 to 1: one saturation, a run of hues, a run of brightness."""
    ramp = np.linspace(0, 1, 256)
    value = low + (high - low) * ramp
    turn = (np.array([5, 3, 1])[:, None] + 6 * (hue + run * ramp)) % 6  # HSV to RGB in closed form
    rgb = value * (1 - saturation * np.clip(np.minimum(turn, 4 - turn), 0, 1))
    return np.asarray(rgb.T * 255, np.uint8)
