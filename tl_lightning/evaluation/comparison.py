"""Whether one model is better than another on the same samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from tl_lightning.evaluation.intervals import Interval, of_samples

_SURE = 0.05


@dataclass(frozen=True)
class Comparison:
    """B against A on N samples: how much righter on average, the 95 % interval of that, and how surely it is no chance.

    `only_a`, `only_b`: samples for which that model alone is right; of values, those for which it errs less.
    """

    difference: float
    interval: Interval
    p: float
    only_a: int
    only_b: int

    def __str__(self) -> str:
        low, high = self.interval
        counts = f"B alone is right {self.only_b} times, A alone {self.only_a} times"
        if self.p >= _SURE:
            verdict = "these samples do not tell A and B apart"
        else:
            verdict = "B is better than A" if self.difference > 0 else "A is better than B"
        return f"{verdict}: {self.difference:+.4f} ({low:+.4f} to {high:+.4f}), {counts}, p = {self.p:.2g}"


def compare(a: np.ndarray, b: np.ndarray) -> Comparison:
    """How right each of the answers (N,) of two models is, the higher the better.

    The exact test of McNemar (Psychometrika 12, 1947) on those that differ, a sign test where answers are values; the
    interval by a paired bootstrap.
    """
    gain = b.astype(np.float64) - a.astype(np.float64)
    only_a, only_b = int((gain < 0).sum()), int((gain > 0).sum())
    p = float(binomtest(min(only_a, only_b), only_a + only_b).pvalue) if only_a + only_b else 1.0
    return Comparison(float(gain.mean()), of_samples(len(gain), lambda places: gain[places].mean(1)), p, only_a, only_b)
