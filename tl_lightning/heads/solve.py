"""The best linear head on fixed features, exactly: no rate, no epochs, no validation split needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_lightning.errors import UserError
from tl_lightning.transferability.ridge import Fit, Reduced, reduce, ridge

Loss = Callable[[Tensor], Tensor]  # logits (N, C) to the loss of every sample (N,)

# Of the logistic loss, against 1 of the squared one: p (1 - p) averaged over images that are mostly fitted. Measured:
# the penalty x 0.1 was within half a point of the best of 1 to 1e-4 on 2 and 10 classes, 10 to 400 images each.
_CURVATURE = 0.1


@dataclass(frozen=True)
class Solution:
    """A linear head: `weight` (C, D), `bias` (C,), with how it was found.

    `quality`: of the ridge regression at the chosen `penalty`, each sample left out in turn, in words. `steps`: of
    L-BFGS, 0 where there was none to take.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    quality: str
    steps: int


def solve_classes(rows: np.ndarray, labels: np.ndarray, classes: int, class_weights: Tensor | None = None) -> Solution:
    """Multinomial logistic regression on features (N, D) for labels (N,), its penalty chosen by leave-one-out.

    Ridge regression on one-hot targets gives the error of every image left out in closed form (the PRESS statistic,
    Allen 1974), for 25 penalties from one eigendecomposition; the best penalty, times the curvature that the logistic
    loss has there, is that of the logistic regression, which L-BFGS solves from a warm start. `class_weights` (C,)
    scale the loss of each image. Raises UserError for features that cannot be fitted.
    """
    y = torch.as_tensor(np.asarray(labels))
    w = torch.ones(len(y), dtype=torch.float64) if class_weights is None else class_weights.double().cpu()[y]
    onehot = F.one_hot(y, classes).double()
    reduced = reduce(rows, w)
    fit = ridge(reduced, onehot, w)

    def loss(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, reduction="none")

    return _logistic(reduced, fit, w, loss, f"accuracy {fit.accuracy:.4f}")


def solve_labels(rows: np.ndarray, targets: np.ndarray) -> Solution:
    """A logistic regression on features (N, D) for each of several classes (N, C), found as by `solve_classes`.

    Raises UserError for features that cannot be fitted.
    """
    y = torch.as_tensor(np.asarray(targets)).double()
    w = torch.ones(len(y), dtype=torch.float64)
    reduced = reduce(rows, w)
    fit = ridge(reduced, y, w)
    right = ((fit.left_out > 0.5) == y.bool()).all(1).double().mean()

    def loss(logits: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, y, reduction="none").sum(1)

    return _logistic(reduced, fit, w, loss, f"accuracy {right:.4f}")


def solve_values(rows: np.ndarray, targets: np.ndarray) -> Solution:
    """Ridge regression on features (N, D) for values (N, K), its penalty chosen by leave-one-out (PRESS).

    Raises UserError for features that cannot be fitted.
    """
    y = torch.as_tensor(np.asarray(targets)).double()
    w = torch.ones(len(y), dtype=torch.float64)
    reduced = reduce(rows, w)
    fit = ridge(reduced, y, w)
    unexplained = (y - fit.left_out).square().sum() / (y - y.mean(0)).square().sum()
    weight = fit.coefficients.T @ reduced.back
    bias = y.mean(0) - weight @ reduced.mean
    return Solution(weight.float(), bias.float(), fit.penalty, f"R2 {1 - unexplained:.4f}", 0)


def _logistic(reduced: Reduced, fit: Fit, w: Tensor, loss: Loss, quality: str) -> Solution:
    """The logistic regression that belongs to a ridge regression, for weights `w` (N,)."""
    beta, bias, steps = logistic(reduced, w, _CURVATURE * fit.penalty, fit.coefficients, loss)
    weight = beta.T @ reduced.back
    return Solution(weight.float(), (bias - weight @ reduced.mean).float(), fit.penalty, quality, steps)


def logistic(reduced: Reduced, w: Tensor, penalty: float, start: Tensor, loss: Loss) -> tuple[Tensor, Tensor, int]:
    """(coefficients (r, C), bias (C,), steps) of penalised logistic regression by L-BFGS from `start` (r, C).

    `loss`: of every sample (N,), from logits (N, C); `w` (N,) what each counts.
    """
    # along the principal axes the Hessian is nearly diagonal: divided by its root, all directions are about as steep
    unit = torch.cat([_CURVATURE * reduced.s + penalty, _CURVATURE * w.sum()[None]]).rsqrt()
    # classes first: the gradient of few classes times many features is ten times as fast as the other way round
    theta = (torch.cat([start.T, start.new_zeros(start.shape[1], 1)], 1) / unit).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [theta],
        max_iter=500,
        tolerance_grad=1e-4,
        tolerance_change=1e-9,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        coefficients = unit * theta
        logits = (coefficients[:, :-1] @ reduced.z.T + coefficients[:, -1:]).T
        total = w @ loss(logits) + penalty / 2 * coefficients[:, :-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = (unit * theta).detach().T
    return found[:-1], found[-1], int(optimizer.state[theta]["n_iter"])


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
