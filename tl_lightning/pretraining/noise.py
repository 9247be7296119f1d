"""Random fields with a 1/f spectrum, as natural images have: backgrounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def field(size: int, rng: np.random.Generator) -> Floats:
    """(size, size) values from 0 to 1, evenly spread: white noise divided by frequency to a power of 1 to 2.2."""
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    decay = np.maximum(np.hypot(rows, columns), 1 / size) ** -rng.uniform(1, 2.2)
    wave = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * decay, (size, size))
    ranks = np.empty(size * size, np.float32)
    ranks[wave.ravel().argsort()] = np.linspace(0, 1, size * size, dtype=np.float32)
    return ranks.reshape(size, size)
