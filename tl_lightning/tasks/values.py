"""One value, or several, for each sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from tl_lightning import checks
from tl_lightning.errors import UserError
from tl_lightning.tasks.task import BETWEEN, Labels, Task

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

    from tl_lightning.evaluation.calibration import Calibration
    from tl_lightning.evaluation.findings import Findings
    from tl_lightning.heads.solve import Solution


def regression(labels: Labels, *, huber: float | None = None) -> tuple[Task, list[str]]:
    """The task of predicting real values, and the labels as they are read back without loss.

    Raises UserError for cells that are no finite numbers, and for a column that is always the same.
    """
    rows = [[_value(part, labels, row) for part in cell.split(BETWEEN)] if cell.strip() else []
            for row, cell in enumerate(labels.cells, 1)]  # fmt: skip
    for column, values in zip(labels.columns, zip(*filter(None, rows), strict=True), strict=True):
        if len(set(values)) < 2:
            raise UserError(f"{labels.where}: {column} is {values[0]:g} everywhere, of which nothing can be learned")
    return Regression(labels.columns, huber=huber), [BETWEEN.join(map(repr, row)) for row in rows]


def _value(text: str, labels: Labels, row: int) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(
            f"{labels.where}: row {row} holds '{text.strip()[:40]}', which is no number: mend it, leave the cell "
            "empty, or take task=classification"
        ) from None
    if not math.isfinite(value):
        raise UserError(
            f"{labels.where}: row {row} holds {text.strip()}: values must be finite; mend it or leave it empty"
        )
    return value


@dataclass(frozen=True)
class Regression(Task):
    """Outputs (N, K) in units of the training targets' deviation, targets (N, K) in their own.

    `mean` and `deviation` (K,) lead from one to the other. `huber`: above so many deviations an error counts linearly
    (Huber's loss); None: squared errors.
    """

    huber: float | None = None
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    noun: ClassVar[str] = "values"
    monitor: ClassVar[str] = "val/rmse"
    shown: ClassVar[Mapping[str, str]] = {"rmse": "RMSE", "mae": "MAE", "r2": "R2"}
    picture: ClassVar[str] = "scatter"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("task.huber", self.huber, 1e-6, optional=True)

    def naming(self, labels: Sequence[str]) -> Self:
        """The task itself: its outputs are columns, not labels."""
        return self

    def members(self, label: str) -> list[str]:
        """Every column."""
        return list(self.outputs)

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        """Values (N, K)."""
        return np.array([[float(v) for v in label.split(BETWEEN)] for label in labels], np.float32).reshape(
            len(labels), len(self.outputs)
        )

    def strata(self, labels: Sequence[str]) -> tuple[list[str], set[int]]:
        """Quarters of the first value's range, so that every split holds low and high ones."""
        values = self.encode(labels)[:, 0]
        quarters = np.searchsorted(np.quantile(values, (0.25, 0.5, 0.75)), values)
        return [str(q) for q in quarters], set()

    def fitted(self, targets: np.ndarray, sampler: str, class_weights: Any) -> Self:
        """The task with mean and deviation of the training targets (N, K). Raises UserError where these do not vary."""
        task = super().fitted(targets, sampler, class_weights)
        mean, deviation = targets.astype(np.float64).mean(0), targets.astype(np.float64).std(0)
        if constant := [n for n, d in zip(self.outputs, deviation, strict=True) if not d > 0]:
            raise UserError(f"{constant[0]} is the same in all training samples, of which nothing can be learned")
        return replace(task, mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist()))

    def refuse_few_shot(self) -> None:
        """Raise UserError: values have no classes."""
        raise UserError("data.max_per_class is for classes: leave it out")

    def standardised(self, targets: Tensor) -> Tensor:
        """Targets (N, K) in units of their deviation."""
        mean, deviation = (targets.new_tensor(v) for v in (self.mean, self.deviation))
        return (targets - mean) / deviation

    def evaluation_loss(self) -> nn.Module:
        """Squared error (Huber's, if asked for) of outputs (N, K) against standardised targets."""
        return _StandardisedLoss(self)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Values (N, K) in the targets' units."""
        mean, deviation = (outputs.new_tensor(v) for v in (self.mean, self.deviation))
        return outputs * deviation + mean

    def answers(self, predictions: np.ndarray, thresholds: Sequence[float] = ()) -> list[Any]:
        """The value of each row of (N, K), or a list of values."""
        return [float(row[0]) if len(row) == 1 else [float(v) for v in row] for row in predictions]

    def rows(self, predictions: np.ndarray, thresholds: Sequence[float] = (), top: int = 1) -> list[dict[str, Any]]:
        """The values of each row of (N, K) by name."""
        return [dict(zip(self.outputs, row.tolist(), strict=True)) for row in predictions]

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,): the squared error of outputs (N, K) in units of the deviation, negative."""
        return -(outputs - self.standardised(targets)).square().mean(1)

    def judge(self, predictions: np.ndarray, targets: np.ndarray, kept: Calibration) -> Findings:
        """How near values (N, K) are to targets (N, K)."""
        from tl_lightning.evaluation.regression import judge

        return judge(predictions, targets, self.outputs)

    def solve(
        self, rows: np.ndarray, targets: np.ndarray, last: int | None = None, weights: np.ndarray | None = None
    ) -> Solution:
        """Ridge regression on features (N, D)."""
        from tl_lightning.heads.solve import solve_values

        return solve_values(rows, self.standardised(torch.as_tensor(targets).double()).numpy(), weights)

    def scores(self) -> MetricCollection:
        """MAE, RMSE and R2 of values (N, K), averaged over columns."""
        from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection, R2Score

        members: dict[str, Any] = {
            "mae": MeanAbsoluteError(),
            "rmse": MeanSquaredError(squared=False),
            "r2": R2Score(),
        }
        return MetricCollection(members, compute_groups=False)

    def overview(self) -> Metric | None:
        """Values (2, N, K): predicted and true."""
        from tl_lightning.tasks.pairs import Pairs

        return Pairs()

    def reported(self, scores: Mapping[str, Tensor], overview: Tensor | None) -> dict[str, Tensor]:
        """All scores (scalars); no R2 of a single sample."""
        return {k: v for k, v in scores.items() if torch.isfinite(v)}

    def rises(self, score: str) -> bool:
        """R2 does, errors do not."""
        return score.rpartition("/")[2] not in ("rmse", "mae") and super().rises(score)

    def facts(self) -> dict[str, Any]:
        """What leads from outputs to values, too."""
        return {**super().facts(), "mean": list(self.mean), "deviation": list(self.deviation)}


class _StandardisedLoss(nn.Module):
    """Of outputs (N, K) for targets (N, K) in their own units, a scalar."""

    def __init__(self, task: Regression) -> None:
        super().__init__()
        self.task = task
        self.loss = nn.MSELoss() if task.huber is None else nn.HuberLoss(delta=task.huber)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A scalar."""
        loss: Tensor = self.loss(outputs, self.task.standardised(targets).to(outputs.dtype))
        return loss
