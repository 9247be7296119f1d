"""What can be known of a backbone and a data set before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tl_lightning.transferability import relatedness, ridge, scores

ALL = "all"  # the tap of all stages together


@dataclass(frozen=True)
class Tap:
    """How much the pooled output of one stage tells of the classes.

    `accuracy`: of ridge regression, `nearest`: of the nearest neighbour, both on images left out in turn; where an
    image may have several classes, mean average precision, and Dice's coefficient. `logme`, `h_score`: see scores.py.
    """

    name: str
    width: int
    accuracy: float
    nearest: float
    logme: float
    h_score: float

    @property
    def mean_accuracy(self) -> float:
        """The mean of both accuracies: of few images, each alone is noise."""
        return (self.accuracy + self.nearest) / 2


@dataclass(frozen=True)
class Likeness:
    """What the source's classifier makes of the target: LEEP, NCE, entropy, and each class's likest source classes."""

    leep: float
    nce: float
    entropy: float
    similar: Mapping[str, tuple[tuple[str, float], ...]]


@dataclass(frozen=True)
class Evidence:
    """All facts. `taps`: of every stage in order, then of all together. `drift`: by stage, of those with BatchNorm.

    `per_class`: training images of the median class. `likeness` is None where the weights have no classifier.
    """

    classes: int
    images: int
    per_class: float
    taps: tuple[Tap, ...]
    drift: Mapping[str, float]
    likeness: Likeness | None

    @property
    def last(self) -> Tap:
        """The tap that a new head would take."""
        return self.taps[-2]

    @property
    def best_early(self) -> Tap:
        """The best of the stages before the last."""
        return max(self.taps[:-2], key=lambda tap: tap.mean_accuracy, default=self.last)

    @property
    def lead(self) -> float:
        """By how much the last stage is ahead of the best earlier one: where it is behind, what it knows is other."""
        return self.last.mean_accuracy - self.best_early.mean_accuracy


def tap(name: str, rows: np.ndarray, labels: np.ndarray) -> Tap:
    """The facts about rows (N, D) for classes (N,), or for several (N, C)."""
    rows = np.asarray(rows, np.float64)
    fit = ridge.leave_one_out(rows, labels)
    return Tap(
        name,
        rows.shape[1],
        fit.accuracy if labels.ndim == 1 else fit.average_precision,
        scores.nearest_neighbour(rows, labels),
        scores.logme(rows, labels),
        scores.h_score(rows, labels),
    )


def likeness(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], source_classes: Sequence[str], top: int = 3
) -> Likeness:
    """The facts that the source's probabilities (N, Z) tell."""
    related = relatedness.relationship(probabilities, labels, len(classes))
    names = list(source_classes) or [str(z) for z in range(related.shape[1])]
    similar = {
        name: tuple((names[z], float(row[z])) for z in np.argsort(-row)[:top])
        for name, row in zip(classes, related, strict=True)
    }
    return Likeness(
        relatedness.leep(probabilities, labels),
        relatedness.nce(probabilities, labels),
        relatedness.entropy(probabilities),
        similar,
    )


def together(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """All taps (N, D) side by side, each image's part of each scaled to unit root mean square."""
    parts = [np.asarray(r, np.float64) for r in rows.values()]
    return np.concatenate([p / np.sqrt((p**2).mean(1, keepdims=True) + 1e-12) for p in parts], 1)
