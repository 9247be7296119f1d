"""Low-rank updates of weight matrices (LoRA, arXiv:2106.09685), as torch parametrizations: names and calls stay."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """weight + alpha / rank x B A, with A (rank, in) random and B (out, rank) zero: at first nothing is changed."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        rank = min(rank, rows, columns)
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, columns))
        self.lora_b = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.lora_a, math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight (out, in), or (out, in, 1, 1), that the layer computes with; any shape stays what it is."""
        return weight + (self.scale * self.lora_b @ self.lora_a).view_as(weight)


def insert(net: nn.Module, rank: int, alpha: float) -> int:
    """Give every matrix of a network a low-rank update; their number.

    Matrices are the weights of linear layers, of 1 x 1 convolutions, and what attention projects its input with.
    """
    found = list(_matrices(net))
    for module, name in found:
        parametrize.register_parametrization(module, name, LowRank(getattr(module, name), rank, alpha))
    return len(found)


def merge(net: nn.Module) -> None:
    """Put every update into the weight that it is of: the network has the parameters that its library gave it."""
    for module in list(net.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _matrices(net: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for module in list(net.modules()):
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield module, "in_proj_weight"
        if isinstance(module, nn.Linear):
            yield module, "weight"
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1:
            yield module, "weight"
