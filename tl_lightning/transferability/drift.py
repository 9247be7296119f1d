"""How far activations are from those of the source, whose statistics BatchNorm has kept."""

from __future__ import annotations

import numpy as np


def symmetric_kl(mean: np.ndarray, var: np.ndarray, source_mean: np.ndarray, source_var: np.ndarray) -> float:
    """Kullback-Leibler divergence in both directions, in nats, between Gaussians; the median of the channels (C,).

    0 where the target's images are to this layer what the source's were. The median, because a channel that was dead
    on the source is infinitely far from one that is not.
    """
    v1, v2 = np.maximum(np.asarray(var, np.float64), 1e-12), np.maximum(np.asarray(source_var, np.float64), 1e-12)
    squared = (np.asarray(mean, np.float64) - source_mean) ** 2
    return float(np.median((v1 + squared) / v2 + (v2 + squared) / v1 - 2) / 2)
