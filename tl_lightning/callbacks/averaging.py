"""Weights averaged over the run, which is what is evaluated and kept."""

from __future__ import annotations

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class PowerAverage(WeightAveraging):
    """An exponential moving average that looks back over a fixed share of the run so far, however long that is.

    Its decay at step t is (1 - 1 / t) ** (gamma + 1), the power function profile of arXiv:2312.02696; `gamma` 6.94 has
    a width of a tenth of the run. BatchNorm's statistics are averaged along, counters are those of the last step.
    """

    def __init__(self, *, gamma: float = 6.94) -> None:
        self.gamma = gamma
        super().__init__(avg_fn=self.average)

    def average(self, averaged: Tensor, current: Tensor, number: Tensor | int) -> Tensor:
        """The next average of a parameter (any shape), after `number` steps have gone into this one."""
        if not averaged.is_floating_point():  # a counter
            return current
        decay = (1 - 1 / (float(number) + 1)) ** (self.gamma + 1)
        return torch.lerp(averaged, current.to(averaged), 1 - decay)
