"""Whether probabilities mean what they say, and how they are made to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from tl_lightning import checks

_BINS = 15
_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_LOG_BOUNDS = (-3.0, 3.0)  # temperatures of 0.05 to 20


@dataclass(frozen=True)
class Calibration:
    """What is made of outputs: they are divided by `temperature`, and a class is answered from its threshold on.

    `thresholds` (C,), or none. Raises UserError for numbers that cannot be meant.
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        checks.number("temperature", self.temperature, 1e-6, 1e6)
        for value in self.thresholds:
            checks.number("threshold", value, 0, 1)


def temperature(loss: Callable[[float], float]) -> float:
    """The temperature of least loss, by which outputs are divided (Guo et al., arXiv:1706.04599)."""
    found = minimize_scalar(lambda log_t: loss(float(np.exp(log_t))), bounds=_LOG_BOUNDS, method="bounded")
    return float(np.exp(found.x))


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean negative log-likelihood of logits (N, C) for classes (N,)."""
    return float(-log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(targets)), targets].mean())


def binary_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean negative log-likelihood of logits (N, C) for targets (N, C) of 0 and 1."""
    wide = logits.astype(np.float64)
    return float((np.logaddexp(0, wide) - wide * targets).mean())


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """In 15 bins of equal width: how sure, how often right, and how many, from (N,) each; no empty bins."""
    place = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    rows = []
    for k in np.unique(place):
        inside = place == k
        rows.append(
            {
                "from": k / _BINS,
                "to": (k + 1) / _BINS,
                "confidence": float(confidence[inside].mean()),
                "right": float(right[inside].mean()),
                "samples": int(inside.sum()),
            }
        )
    return rows


def expected_error(rows: list[dict[str, Any]]) -> float:
    """Expected calibration error: |sure - right| of the bins of `reliability`, each counted by its samples."""
    total = sum(row["samples"] for row in rows)
    return float(sum(row["samples"] * abs(row["confidence"] - row["right"]) for row in rows) / total)


def abstention(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """How often the surest answers are right, when only so large a share of the samples is answered; (N,) each."""
    order = np.argsort(-confidence, kind="stable")
    rows = []
    for share in _COVERAGES:
        kept = order[: max(1, round(share * len(order)))]
        rows.append({"answered": share, "right": float(right[kept].mean()), "least sure": float(confidence[kept[-1]])})
    return rows
