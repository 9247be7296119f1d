"""The loss of classes that are questions by themselves."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class BinaryCrossEntropy(nn.Module):
    """Of logits (N, C) for targets (N, C) in [0, 1], which smoothing moves towards one half.

    `positive` (C,): what the samples of each class count, against 1 of all others.
    """

    positive: Tensor | None

    def __init__(self, smoothing: float = 0.0, positive: Tensor | None = None) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("positive", positive, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """A scalar."""
        wanted = targets.to(logits.dtype)
        if self.smoothing:
            wanted = wanted * (1 - self.smoothing) + self.smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=self.positive)
