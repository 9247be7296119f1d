"""Which of several configurations is best, and which the seeds cannot tell from it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05  # of error, below which two configurations are told apart


@dataclass(frozen=True)
class Summary:
    """Of `number` scores their mean, deviation, and the 95 % interval of the mean by Student's t; None for too few."""

    number: int
    mean: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Of at least one score."""
        mean = float(np.mean(values))
        if len(values) < 2:
            return cls(len(values), mean)
        deviation = float(np.std(values, ddof=1))
        if not deviation:  # the seeds change nothing: that is no certainty
            return cls(len(values), mean, deviation)
        half = float(stats.t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
        return cls(len(values), mean, deviation, mean - half, mean + half)

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.deviation is None else f"{self.mean:.4f} ± {self.deviation:.4f}"


def apart(first: Mapping[str, float], second: Mapping[str, float]) -> float | None:
    """How likely so large a difference is if there is none: p of Student's t, paired where two seeds are equal.

    Scores by seed. None where there are too few of them to say, or where none of them changes anything.
    """
    a, b = np.array(list(first.values())), np.array(list(second.values()))
    if min(len(a), len(b)) < 2:
        return None
    common = sorted(first.keys() & second.keys())
    paired = np.array([first[seed] - second[seed] for seed in common])
    still = not np.ptp(a) and not np.ptp(b)  # the seeds change nothing, and so say nothing
    if still or (len(common) > 1 and not np.ptp(paired)):
        return 1.0 if np.isclose(a.mean(), b.mean()) else None if still else 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scores that hardly differ
        if len(common) > 1:
            return float(stats.ttest_1samp(paired, 0).pvalue)
        return float(stats.ttest_ind(a, b, equal_var=False).pvalue)


def front(scores: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Places that no other one beats in score (the higher the better) at no more cost, the cheapest first."""
    best, found = -math.inf, []
    for place in sorted(range(len(scores)), key=lambda i: (costs[i], -scores[i])):
        if scores[place] > best:
            best = scores[place]
            found.append(place)
    return found
