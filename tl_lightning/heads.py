"""New classifiers for old features. Each is built from (feature length, class prior)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear(in_features: int, prior: Tensor, *, dropout: float = 0.0) -> nn.Module:
    """Dropout and a linear map that starts by predicting the prior: zero weights, bias log p(class)."""
    return nn.Sequential(nn.Dropout(dropout), _prior_linear(in_features, prior))


def mlp(in_features: int, prior: Tensor, *, hidden: int = 512, dropout: float = 0.0) -> nn.Module:
    """One hidden layer of GELU units in front of the linear head."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(in_features, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        _prior_linear(hidden, prior),
    )


class CosineHead(nn.Module):
    """Scaled cosine between features and one direction per class (arXiv:1804.09458): blind to feature length."""

    def __init__(self, in_features: int, prior: Tensor, *, scale: float = 16.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.weight = nn.Parameter(torch.randn(len(prior), in_features) / in_features**0.5)
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_features) to (N, classes) logits within +-scale."""
        return self.scale * F.linear(F.normalize(self.dropout(features)), F.normalize(self.weight))


def _prior_linear(in_features: int, prior: Tensor) -> nn.Linear:
    layer = nn.Linear(in_features, len(prior))
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(prior.log())
    return layer
