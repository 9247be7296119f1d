"""The best linear head on fixed features, exactly: no rate, no epochs, no validation split needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_lightning.errors import UserError
from tl_lightning.transferability.ridge import Reduced, reduce, ridge

# Of the logistic loss, against 1 of the squared one: p (1 - p) averaged over images that are mostly fitted. Measured:
# the penalty x 0.1 was within half a point of the best of 1 to 1e-4 on 2 and 10 classes, 10 to 400 images each.
_CURVATURE = 0.1


@dataclass(frozen=True)
class Solution:
    """A linear classifier: `weight` (C, D), `bias` (C,), with how it was found.

    `accuracy`: of the ridge classifier at the chosen `penalty`, each image left out in turn. `steps`: of L-BFGS.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    accuracy: float
    steps: int


def solve(rows: np.ndarray, labels: np.ndarray, classes: int, class_weights: Tensor | None = None) -> Solution:
    """Multinomial logistic regression on features (N, D), its penalty chosen by leave-one-out.

    Ridge regression on one-hot targets gives the error of every image left out in closed form (the PRESS statistic,
    Allen 1974), for 25 penalties from one eigendecomposition; the best penalty, times the curvature that the logistic
    loss has there, is that of the logistic regression, which L-BFGS solves from a warm start. `class_weights` (C,)
    scale the loss of each image. `labels`: (N,), or (N, C) of samples that may have several classes.
    """
    y = torch.as_tensor(np.asarray(labels))
    several = y.ndim == 2  # classes of a sample: a logistic regression for each
    plain = several or class_weights is None
    w = torch.ones(len(y), dtype=torch.float64) if plain else class_weights.double().cpu()[y]  # type: ignore[union-attr]
    reduced = reduce(rows, w)
    onehot = y.double() if several else F.one_hot(y, classes).double()
    fit = ridge(reduced, onehot, w, several)
    beta, bias, steps = logistic(reduced, y, w, _CURVATURE * fit.penalty, fit.coefficients)
    weight = beta.T @ reduced.back
    return Solution(weight.float(), (bias - weight @ reduced.mean).float(), fit.penalty, fit.accuracy, steps)


def logistic(reduced: Reduced, y: Tensor, w: Tensor, penalty: float, start: Tensor) -> tuple[Tensor, Tensor, int]:
    """(coefficients (r, C), bias (C,), steps) of penalised multinomial logistic regression by L-BFGS from `start`."""
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
        if y.ndim == 2:
            losses = F.binary_cross_entropy_with_logits(logits, y.double(), reduction="none").sum(1)
        else:
            losses = F.cross_entropy(logits, y, reduction="none")
        loss = w @ losses + penalty / 2 * coefficients[:, :-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = (unit * theta).detach().T
    return found[:-1], found[-1], int(optimizer.state[theta]["n_iter"])


def install(head: nn.Module, solution: Solution) -> None:
    """Put a solution into a linear head. UserError if the head is of another kind."""
    layer = linear_of(head)
    with torch.no_grad():
        layer.weight.copy_(solution.weight)
        layer.bias.copy_(solution.bias)


def linear_of(head: nn.Module) -> nn.Linear:
    """The one linear map that a head is in evaluation; UserError if it is more than that."""
    parts = [m for m in head.modules() if not isinstance(m, (nn.Sequential, nn.Dropout))]
    if len(parts) != 1 or not isinstance(parts[0], nn.Linear):
        raise UserError(
            "only a linear head can be solved exactly: take head=linear, or train the head "
            "(strategy=feature_extraction, or strategy=lp_ft strategy.head_epochs=3)"
        )
    return parts[0]
