"""Whether two splits can be told apart: then scores on one say little of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from tl_lightning.transferability.ridge import leave_one_out


@dataclass(frozen=True)
class Domains:
    """How well a classifier tells two splits apart (`auroc`, `error` its standard error), and (N,) how surely."""

    auroc: float
    error: float
    second: np.ndarray

    @property
    def differ(self) -> bool:
        """By more than chance and than a little."""
        return self.auroc - 2 * self.error > 0.6


def domains(features: np.ndarray, second: np.ndarray) -> Domains:
    """Of features (N, D), and whether each is of the second split (N,), by ridge regression on those left out in turn.

    The standard error is Hanley and McNeil's (Radiology 143, 1982).
    """
    values = leave_one_out(features, second.astype(int)).left_out[:, 1].numpy()
    auroc = float(roc_auc_score(second, values))
    n, m = int(second.sum()), int((~second).sum())
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = (auroc * (1 - auroc) + (n - 1) * (q1 - auroc**2) + (m - 1) * (q2 - auroc**2)) / (n * m)
    return Domains(auroc, float(np.sqrt(max(variance, 0))), values)
