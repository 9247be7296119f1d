"""What can be said of a picture without knowing what it shows: where its edges and its colours are."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS, ORIENTATIONS = 4, 6
LENGTH = CELLS * CELLS * (ORIENTATIONS + 3)


@torch.no_grad()
def describe(images: Tensor) -> Tensor:
    """Bytes (N, 3, H, W) to (N, LENGTH): in each of 4 x 4 cells, edges by orientation and the mean colour.

    Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), which masked pretraining predicts as well as a
    network's own features (Wei et al., MaskFeat, CVPR 2022). Every number has mean 0 and variance 1 over the batch.
    """
    pixels = images.float() / 255
    grey = F.pad(pixels.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    bins = (torch.atan2(down, across) % math.pi * (ORIENTATIONS / math.pi)).long().clamp(max=ORIENTATIONS - 1)
    edges = torch.zeros_like(across).expand(-1, ORIENTATIONS, -1, -1).scatter(1, bins, across.hypot(down))
    parts = F.adaptive_avg_pool2d(edges, CELLS).sqrt(), F.adaptive_avg_pool2d(pixels, CELLS)
    numbers = torch.cat(parts, 1).flatten(1)
    return (numbers - numbers.mean(0)) / (numbers.std(0) + 1e-3)
