"""Of answers that are values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tl_lightning.evaluation.findings import Findings, Score
from tl_lightning.evaluation.intervals import of_samples


def judge(predicted: np.ndarray, true: np.ndarray, names: Sequence[str]) -> Findings:
    """Of values (N, K) for true ones (N, K): MAE, RMSE and R2, means over columns, with intervals."""
    wide, wanted = predicted.astype(np.float64), true.astype(np.float64)
    error = wide - wanted
    measures: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "mae": lambda places: np.abs(error)[places].mean((1, 2)),
        "rmse": lambda places: np.sqrt(np.square(error)[places].mean((1, 2))),
        "r2": lambda places: _r2(error, wanted, places),
    }
    everything, scores = np.arange(len(error))[None], []
    for name, measure in measures.items():
        if name != "r2" or len(error) > 1:
            scores.append(Score(name, float(measure(everything)[0]), *of_samples(len(error), measure)))
    rows = [
        {
            "value": name,
            "mae": float(np.abs(error[:, k]).mean()),
            "rmse": float(np.sqrt(np.square(error[:, k]).mean())),
            "bias": float(error[:, k].mean()),
        }
        for k, name in enumerate(names)
    ]
    size = (np.abs(error) / np.maximum(wanted.std(0), 1e-12)).mean(1)
    return Findings(scores, {"values": rows}, np.argsort(-size, kind="stable").tolist())


def _r2(error: np.ndarray, wanted: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(B,): the mean R2 over the columns, of samples at places (B, N)."""
    drawn = wanted[places]
    spread = np.square(drawn - drawn.mean(1, keepdims=True)).sum(1)
    mean: np.ndarray = (1 - np.square(error[places]).sum(1) / np.maximum(spread, 1e-12)).mean(1)
    return mean
