"""The best linear head on fixed features, exactly: no rate, no epochs, no validation split needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_lightning.errors import UserError
from tl_lightning.heads.logistic import CURVATURE, logistic
from tl_lightning.transferability.folds import random_folds, stratified_folds
from tl_lightning.transferability.ridge import PENALTIES, Reduced, reduce, ridge

# Of few samples: penalties tried on folds, from the strongest, each from where the one before it ended.
_FOLDS = 3
_PATH = torch.logspace(3, -4, 9, dtype=torch.float64)


@dataclass(frozen=True)
class Solution:
    """A linear head: `weight` (C, D), `bias` (C,), with how it was found.

    `quality` at the chosen `penalty`, on samples that were left out, in words. `steps`: of L-BFGS, 0 where there was
    none to take.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    quality: str
    steps: int


def solve_classes(
    rows: np.ndarray,
    labels: np.ndarray,
    classes: int,
    class_weights: Tensor | None = None,
    last: int | None = None,
    weights: np.ndarray | None = None,
) -> Solution:
    """Multinomial logistic regression on features (N, D) for labels (N,).

    Its penalty is that of the least log-loss in three stratified folds; of more than a thousand samples, that of ridge
    regression on one-hot targets, whose error of every sample left out is there in closed form (the PRESS statistic,
    Allen 1974), for 25 penalties from one eigendecomposition, times the curvature that the logistic loss has there.
    L-BFGS solves. `class_weights` (C,) and `weights` (N,) scale the loss of each sample. `last`: so many columns at the
    end are those of the last stage, which alone are taken where they do better in the folds. Raises UserError for
    features that cannot be fitted.
    """
    known = np.asarray(labels)
    y = torch.as_tensor(known)
    w = _weights(len(y), weights) * (1 if class_weights is None else class_weights.double().cpu()[y])
    onehot = F.one_hot(y, classes).double()

    def loss(logits: Tensor, places: Tensor) -> Tensor:
        return F.cross_entropy(logits, y[places], reduction="none")

    def right(logits: Tensor, places: Tensor) -> Tensor:
        return (logits.argmax(1) == y[places]).double()

    return _solved(rows, LogisticProblem(onehot, w, loss, right, stratified_folds(known, _FOLDS)), last)


def solve_labels(
    rows: np.ndarray,
    targets: np.ndarray,
    last: int | None = None,
    weights: np.ndarray | None = None,
    positive: Tensor | None = None,
) -> Solution:
    """A logistic regression on features (N, D) for each of several classes (N, C), found as by `solve_classes`.

    `weights` (N,) scale the loss of each sample, `positive` (C,) that of the samples of each class. Raises UserError
    for features that cannot be fitted.
    """
    y = torch.as_tensor(np.asarray(targets)).double()
    w = _weights(len(y), weights)
    scale = None if positive is None else positive.double().cpu()

    def loss(logits: Tensor, places: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, y[places], reduction="none", pos_weight=scale).sum(1)

    def right(logits: Tensor, places: Tensor) -> Tensor:
        return ((logits > 0) == y[places].bool()).all(1).double()

    return _solved(rows, LogisticProblem(y, w, loss, right, random_folds(len(y), _FOLDS), middle=0.5), last)


def solve_values(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> Solution:
    """Ridge regression on features (N, D) for values (N, K), its penalty chosen by leave-one-out (PRESS).

    `weights` (N,): what each sample counts. Raises UserError for features that cannot be fitted.
    """
    y = torch.as_tensor(np.asarray(targets)).double()
    w = _weights(len(y), weights)
    reduced = reduce(rows, w)
    fit = ridge(reduced, y, w)
    mean = w @ y / w.sum()
    unexplained = (w @ (y - fit.left_out).square()).sum() / (w @ (y - mean).square()).sum()
    weight = fit.coefficients.T @ reduced.back
    bias = mean - weight @ reduced.mean
    how = f"R2 {1 - unexplained:.4f}, each left out in turn (best of {PENALTIES} penalties)"
    return Solution(weight.float(), bias.float(), fit.penalty, how, 0)


def _weights(count: int, said: np.ndarray | None) -> Tensor:
    """(N,): what each sample counts."""
    return torch.ones(count, dtype=torch.float64) if said is None else torch.from_numpy(said).double()


@dataclass(frozen=True)
class LogisticProblem:
    """A logistic regression to be solved.

    `targets` (N, C) as ridge regression takes them, `w` (N,) what each sample counts, `loss` and `right` (N,) of logits
    (N, C) of the samples at `places` (N,), `folds` (N,) or None. `middle`: the value of a target between yes and no.
    """

    targets: Tensor
    w: Tensor
    loss: Callable[..., Tensor]
    right: Callable[[Tensor, Tensor], Tensor]
    folds: np.ndarray | None
    middle: float = 0.0


def _solved(rows: np.ndarray, problem: LogisticProblem, last: int | None) -> Solution:
    """The logistic regression on features (N, D), or on their `last` columns alone."""
    if problem.folds is None:
        reduced = reduce(rows, problem.w)
        fit = ridge(reduced, problem.targets, problem.w)
        known = torch.arange(len(rows))
        accuracy = float(problem.right(fit.left_out - problem.middle, known).mean())
        how = f"accuracy {accuracy:.4f}, each left out in turn (ridge regression, best of {PENALTIES} penalties)"
        return _at(reduced, problem, fit.penalty, fit.coefficients, how)
    parts = [rows] if last in (None, rows.shape[1]) else [rows, rows[:, -last:]]
    tried = [_by_folds(reduce(part, problem.w), problem) for part in parts]
    found = tried[-1] if len(tried) > 1 and _clearly_better(tried[1].losses, tried[0].losses) else tried[0]
    reduced, penalty = found.reduced, found.penalty
    how = f"accuracy {found.accuracy:.4f} in {len(np.unique(problem.folds))} folds (best of {len(_PATH)} penalties)"
    if len(parts) > 1:
        how += ", of all stages" if found is tried[0] else ", of the last stage alone"
    start = reduced.z.new_zeros(reduced.z.shape[1], problem.targets.shape[1])
    solution = _at(reduced, problem, penalty, start, how)
    lacking = rows.shape[1] - solution.weight.shape[1]
    return replace(solution, weight=F.pad(solution.weight, (lacking, 0)))


@dataclass(frozen=True)
class LeftOut:
    """The best penalty for features, with the loss of every sample (N,) whose fold was left out."""

    reduced: Reduced
    penalty: float
    losses: Tensor
    accuracy: float


def _clearly_better(losses: Tensor, others: Tensor) -> bool:
    """Whether losses (N,) are smaller than others of the same samples by more than chance gives."""
    gain = others - losses
    return bool(gain.mean() > gain.std() / len(gain) ** 0.5)


def _by_folds(reduced: Reduced, problem: LogisticProblem) -> LeftOut:
    """The penalty of the least loss on samples whose fold was left out."""
    assert problem.folds is not None
    z, w = reduced.z, problem.w
    losses, rights = (torch.zeros(len(_PATH), len(z), dtype=torch.float64) for _ in range(2))
    penalties = (reduced.s.mean() * _PATH).tolist()
    for fold in np.unique(problem.folds):
        out = torch.as_tensor(np.flatnonzero(problem.folds == fold))
        kept = torch.as_tensor(np.flatnonzero(problem.folds != fold))
        part = Reduced(z[kept], reduced.s * len(kept) / len(z), reduced.back, reduced.mean)
        beta = z.new_zeros(z.shape[1], problem.targets.shape[1])
        for k, penalty in enumerate(penalties):
            beta, bias, _ = logistic(part, w[kept], CURVATURE * penalty, beta, partial(problem.loss, places=kept))
            logits = z[out] @ beta + bias
            losses[k, out] = w[out] * problem.loss(logits, out)
            rights[k, out] = problem.right(logits, out)
    best = int(losses.sum(1).argmin())
    return LeftOut(reduced, penalties[best], losses[best], float(rights[best].mean()))


def _at(reduced: Reduced, problem: LogisticProblem, penalty: float, start: Tensor, how: str) -> Solution:
    """The logistic regression of one penalty, from coefficients (r, C)."""
    everything = torch.arange(len(reduced.z))
    loss = partial(problem.loss, places=everything)
    beta, bias, steps = logistic(reduced, problem.w, CURVATURE * penalty, start, loss)
    weight = beta.T @ reduced.back
    return Solution(weight.float(), (bias - weight @ reduced.mean).float(), penalty, how, steps)


def install(head: nn.Module, solution: Solution) -> None:
    """Put a solution into a linear head. Raises UserError if the head is of another kind."""
    layer = linear_of(head)
    with torch.no_grad():
        layer.weight.copy_(solution.weight)
        layer.bias.copy_(solution.bias)


def linear_of(head: nn.Module) -> nn.Linear:
    """The one linear map that a head is in evaluation. Raises UserError if it is more than that."""
    parts = [m for m in head.modules() if not isinstance(m, (nn.Sequential, nn.Dropout))]
    if len(parts) != 1 or not isinstance(parts[0], nn.Linear):
        raise UserError(
            "only a linear head can be solved exactly: take head=linear, or train the head "
            "(strategy=feature_extraction, or strategy=lp_ft strategy.head_epochs=3)"
        )
    return parts[0]
