"""Ridge regression on one-hot targets, every image left out in turn, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from tl_lightning.errors import UserError
from tl_lightning.transferability.folds import random_folds, stratified_folds
from tl_lightning.transferability.scores import indicators

PENALTIES = 25
_CHUNK = 8192  # rows that are looked at at once


@dataclass(frozen=True)
class Reduced:
    """Centred and scaled rows in the basis of their principal axes.

    `z` (N, r) for eigenvalues `s` (r,) of weighted z'z. A linear map of `z` is one of the features: `back` (r, D) and
    `mean` (D,) lead there.
    """

    z: Tensor
    s: Tensor
    back: Tensor
    mean: Tensor


def reduce(rows: np.ndarray, w: Tensor) -> Reduced:
    """Rows (N, D) centred, scaled and rotated to their principal axes; what never varies is left out.

    Scaled by the root of their deviations, half-way to unit variance: all the way blows up features that hardly ever
    fire, which with few images are noise. `w` (N,) weighs the rows. Raises UserError if no feature varies, or some are
    not finite.
    """
    n, d = rows.shape
    parts = [slice(a, min(a + _CHUNK, n)) for a in range(0, n, _CHUNK)]

    def chunk(part: slice) -> Tensor:
        return torch.from_numpy(np.asarray(rows[part], np.float64))

    mean = torch.stack([w[p] @ chunk(p) for p in parts]).sum(0) / w.sum()
    variance = torch.stack([w[p] @ (chunk(p) - mean) ** 2 for p in parts]).sum(0) / w.sum()
    varies = variance > torch.maximum(1e-12 * variance.max(), 1e-11 * mean**2)  # beyond rounding
    if not (varies.any() and torch.isfinite(variance).all()):
        raise UserError("features that are not finite, or are the same for every sample, cannot be fitted")
    scale = torch.where(varies, variance, torch.inf) ** -0.25  # 0 for what never varies
    root = w.sqrt()[:, None]
    if n > d:
        gram = mean.new_zeros(d, d)
        for p in parts:
            a = root[p] * (chunk(p) - mean) * scale
            gram += a.T @ a
        s, axes = _eigh(gram)
    else:
        a = root * (chunk(slice(0, n)) - mean) * scale
        s, left = _eigh(a @ a.T)
        axes = a.T @ left / s.clamp(min=1e-300).sqrt()
    live = s > 1e-10 * s.max()
    back = (axes[:, live] * scale[:, None]).T
    z = torch.cat([(chunk(p) - mean) @ back.T for p in parts])
    return Reduced(z, s[live], back, mean)


def _eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors by divide and conquer: on a CPU a tenth of the time that torch's own takes."""
    s, axes = scipy.linalg.eigh(gram.numpy(), driver="evd")
    return torch.from_numpy(s), torch.from_numpy(axes)


@dataclass(frozen=True)
class Fit:
    """The ridge regression of the least leave-one-out squared error.

    `coefficients` (r, C) act on `Reduced.z`; `left_out` (N, C) are each sample's values by the regression that was
    fitted without it, `targets` (N, C) what they should be.
    """

    penalty: float
    coefficients: Tensor
    left_out: Tensor
    targets: Tensor

    @property
    def accuracy(self) -> float:
        """How often the largest value of a sample that is left out is its class."""
        return float((self.left_out.argmax(1) == self.targets.argmax(1)).double().mean())

    @property
    def average_precision(self) -> float:
        """Of samples that are left out, the mean over classes that some samples have and others have not."""
        from sklearn.metrics import average_precision_score  # a second to import, and rarely needed

        targets, values = self.targets.numpy(), self.left_out.numpy()
        both = np.flatnonzero((targets.sum(0) > 0) & (targets.sum(0) < len(targets)))
        return float(np.mean([average_precision_score(targets[:, c], values[:, c]) for c in both]))


def ridge(reduced: Reduced, targets: Tensor, w: Tensor, folds: np.ndarray | None = None) -> Fit:
    """The best of 25 penalties, by the error of every sample left out in turn (the PRESS statistic, Allen 1974).

    `targets` (N, C): one-hot classes, 0 and 1 of several classes, or values; `w` (N,) the weight of each sample.
    `folds` (N,): samples of one fold are left out together, also in closed form.
    """
    z, s = reduced.z, reduced.s
    mean = w @ targets / w.sum()
    target = targets - mean
    projected = z.T @ (w[:, None] * target)
    squared, least, best = z**2, float("inf"), None
    for penalty in (s.mean() * torch.logspace(-4, 4, PENALTIES, dtype=torch.float64)).tolist():
        beta = projected / (s + penalty)[:, None]
        if folds is None:
            leverage = w * (squared @ (1 / (s + penalty)) + 1 / w.sum())
            residual = (target - z @ beta) / (1 - leverage).clamp(min=1e-9)[:, None]
        else:
            residual = _by_folds(z / (s + penalty), z, w, target - z @ beta, folds)
        error = float((w[:, None] * residual**2).sum() / w.sum())
        if error < least:
            least, best = error, Fit(penalty, beta, targets - residual, targets)
    assert best is not None  # `reduce` has refused what is not finite
    return best


def _by_folds(shrunk: Tensor, z: Tensor, w: Tensor, residual: Tensor, folds: np.ndarray) -> Tensor:
    """(N, C): residuals of samples whose fold was left out, of those (N, C) of the whole fit.

    (I - H)^-1 of a fold's block of the hat matrix; the class means are those of all, which balanced folds share.
    """
    left_out = torch.empty_like(residual)
    for fold in np.unique(folds):
        rows = torch.as_tensor(np.flatnonzero(folds == fold))
        hat = shrunk[rows] @ z[rows].T * w[rows]
        left_out[rows] = torch.linalg.solve(torch.eye(len(rows), dtype=hat.dtype) - hat, residual[rows])
    return left_out


def leave_one_out(rows: np.ndarray, labels: np.ndarray) -> Fit:
    """Ridge on rows (N, D), all images alike, for classes (N,) or several (N, C); few are left out in five folds."""
    w = torch.ones(len(rows), dtype=torch.float64)
    known = np.asarray(labels)
    folds = stratified_folds(known, 5) if known.ndim == 1 else random_folds(len(known), 5)
    return ridge(reduce(rows, w), torch.from_numpy(indicators(known)), w, folds)
