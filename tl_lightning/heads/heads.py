"""New heads for old features. Each is built from (length of the features, what its outputs start with)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_lightning import checks


def linear(in_features: int, start: Tensor, *, dropout: float = 0.0) -> nn.Module:
    """Dropout and a linear map (N, in_features) to (N, outputs), at first `start` (outputs,): zero weights, that bias.

    Raises ValueError for a dropout that is no probability.
    """
    return nn.Sequential(nn.Dropout(dropout), _starting_linear(in_features, start))


def mlp(in_features: int, start: Tensor, *, hidden: int = 512, dropout: float = 0.0) -> nn.Module:
    """One hidden layer of GELU units in front of the linear head: (N, in_features) to (N, outputs).

    Raises UserError for a layer of no units, ValueError for a dropout that is no probability.
    """
    checks.whole("head.hidden", hidden, 1)
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(in_features, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        _starting_linear(hidden, start),
    )


class CosineHead(nn.Module):
    """Scaled cosine between features and one direction per output (arXiv:1804.09458): blind to feature length."""

    def __init__(self, in_features: int, start: Tensor, *, scale: float = 16.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.weight = nn.Parameter(torch.randn(len(start), in_features) / in_features**0.5)
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_features) to (N, outputs) logits within +-scale."""
        return self.scale * F.linear(F.normalize(self.dropout(features)), F.normalize(self.weight))


def _starting_linear(in_features: int, start: Tensor) -> nn.Linear:
    """A linear map (N, in_features) to (N, outputs) of zero weights and the bias `start`."""
    layer = nn.Linear(in_features, len(start))
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(start)
    return layer
