"""Of answers that are several classes, or none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tl_lightning.evaluation import calibration
from tl_lightning.evaluation.findings import Findings, Score
from tl_lightning.evaluation.intervals import of_samples
from tl_lightning.evaluation.single_label import class_rows, means, share, typical

_HALF = 0.5


def judge(
    probabilities: np.ndarray, targets: np.ndarray, names: Sequence[str], thresholds: Sequence[float] = ()
) -> Findings:
    """Of probabilities (N, C) for targets (N, C) of 0 and 1; a class is answered above 0.5 or from its threshold."""
    true = targets.astype(bool)
    answered = probabilities >= np.asarray(thresholds) if len(thresholds) else probabilities > _HALF
    right = (true == answered).all(1)
    hits, either = (true & answered).astype(np.float64), true.astype(np.float64) + answered

    def macro_f1(places: np.ndarray) -> np.ndarray:
        return np.array([_macro_f1(hits[p].sum(0), either[p].sum(0)) for p in places])

    scores = [
        share("accuracy", right),
        Score("macro_f1", _macro_f1(hits.sum(0), either.sum(0)), *of_samples(len(right), macro_f1)),
        Score("micro_f1", float(2 * hits.sum() / max(either.sum(), 1))),
    ]
    rows = class_rows(probabilities, true, answered, names)
    given = np.where(true, probabilities, 1 - probabilities)
    bins = calibration.reliability(np.maximum(probabilities, 1 - probabilities).ravel(),
                                   ((probabilities > _HALF) == true).ravel())  # fmt: skip
    scores += [*means(rows), Score("calibration_error_scaled", calibration.expected_error(bins))]
    wrong = np.flatnonzero(~right)
    worst = np.argsort(np.log(np.maximum(given[wrong], 1e-12)).sum(1), kind="stable")
    surest = typical(probabilities, true & answered)
    return Findings(scores, {"classes": rows, "reliability": bins}, wrong[worst].tolist(), surest)


def _macro_f1(hits: np.ndarray, either: np.ndarray) -> float:
    """The mean F1 of C classes; one without samples and answers counts as 0, as torchmetrics counts it."""
    return float((2 * hits / np.maximum(either, 1)).mean())
