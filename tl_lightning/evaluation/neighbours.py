"""How far a sample is from all that a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

K = 5
KNOWN = 0.95  # of the training samples are nearer to the others than what is called unknown
_AT_ONCE = 512  # rows


@dataclass(frozen=True)
class Neighbours:
    """Features (M, D) of training samples at unit length, and the distance from which a sample is unknown.

    The distance is the mean of those to the 5 nearest, each 1 - cosine (Sun et al., arXiv:2204.06507, take that to the
    k-th).
    """

    rows: np.ndarray
    threshold: float

    @classmethod
    def of(cls, features: np.ndarray) -> Neighbours:
        """Of features (M, D), the threshold from each of them against all others."""
        rows = _unit(features).astype(np.float16)
        distances = _nearest(rows, rows, itself=True)
        return cls(rows, float(np.quantile(distances, KNOWN)))

    def distances(self, features: np.ndarray) -> np.ndarray:
        """(N,) of features (N, D)."""
        return _nearest(_unit(features), self.rows)


def _unit(features: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float32)
    unit: np.ndarray = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit


def _nearest(features: np.ndarray, rows: np.ndarray, itself: bool = False) -> np.ndarray:
    """(N,): the mean distance of features (N, D) to the nearest rows (M, D); `itself`: they are the rows."""
    wide = rows.astype(np.float32)
    number = min(K, len(rows) - itself)
    found = []
    for start in range(0, len(features), _AT_ONCE):
        near = features[start : start + _AT_ONCE].astype(np.float32) @ wide.T
        if itself:
            near[np.arange(len(near)), start + np.arange(len(near))] = -np.inf
        found.append(1 - np.partition(near, -number, axis=1)[:, -number:].mean(1))
    return np.concatenate(found)
