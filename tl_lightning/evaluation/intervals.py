"""95 % intervals of scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import binomtest

_LEVELS = (0.025, 0.975)
_DRAWS = 2000
_AT_ONCE = 4_000_000  # numbers

Interval = tuple[float, float]


def wilson(right: int, total: int) -> Interval:
    """Wilson's interval of a share (JASA 22, 1927)."""
    found = binomtest(right, total).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def of_confusion(confusion: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> Interval:
    """Percentile bootstrap of a statistic of a confusion matrix (C, C), whose cells are drawn as a multinomial.

    `statistic`: (B, C, C) counts to (B,).
    """
    random, total = np.random.default_rng(seed), int(confusion.sum())
    cells = np.flatnonzero(confusion)
    shares = confusion.ravel()[cells] / total
    drawn = []
    for size in _parts(confusion.size):
        counts = np.zeros((size, confusion.size), np.int64)
        counts[:, cells] = random.multinomial(total, shares, size=size)
        drawn.append(statistic(counts.reshape(size, *confusion.shape)))
    return _percentiles(np.concatenate(drawn))


def of_samples(number: int, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> Interval:
    """Percentile bootstrap over N samples. `statistic`: places (B, N), drawn with replacement, to (B,)."""
    random = np.random.default_rng(seed)
    drawn = [statistic(random.integers(0, number, (size, number))) for size in _parts(number)]
    return _percentiles(np.concatenate(drawn))


def _parts(width: int) -> list[int]:
    """Draws that fit into memory at once, which add up to all of them."""
    most = max(1, min(_DRAWS, _AT_ONCE // width))
    return [most] * (_DRAWS // most) + ([_DRAWS % most] if _DRAWS % most else [])


def _percentiles(drawn: np.ndarray) -> Interval:
    low, high = np.quantile(drawn, _LEVELS)
    return float(low), float(high)
