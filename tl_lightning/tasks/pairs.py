"""Predicted and true values kept side by side, for a scatter plot."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

_MOST = 2000  # points that a picture can show


class Pairs(Metric):
    """Collects values (N, K) and targets (N, K); gives (2, N, K), the predicted ones first, at most 2,000 of them."""

    full_state_update = False
    predicted: list[Tensor]
    true: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("predicted", [], dist_reduce_fx="cat")
        self.add_state("true", [], dist_reduce_fx="cat")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Keep predictions (N, K) and targets (N, K) of a batch."""
        self.predicted.append(predictions.float())
        self.true.append(targets.float())

    def compute(self) -> Tensor:
        """(2, N, K): all predictions, and what was true."""
        return torch.stack([dim_zero_cat(self.predicted)[:_MOST], dim_zero_cat(self.true)[:_MOST]])
