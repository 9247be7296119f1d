"""How much of what a network knew is still there: activations and answers before and after, on the same images."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Centred kernel alignment of two sets of features (N, D) and (N, E), linear kernel (arXiv:1905.00414).

    1 where they differ by a rotation and a scale, near 0 where they have nothing in common; 1 if neither varies.
    """
    x, y = (a.double() - a.double().mean(0) for a in (x, y))
    k, m = x @ x.T, y @ y.T
    scale = k.norm() * m.norm()
    return float((k * m).sum() / scale) if scale > 0 else float(k.norm() == m.norm())


def shift(before: Tensor, now: Tensor) -> float:
    """Length of the change of features (N, D) against their length: 0 unchanged, 1 as far as from nothing."""
    return float((now.double() - before.double()).norm() / before.double().norm().clamp(min=1e-30))


def agreement(before: Tensor, now: Tensor) -> float:
    """How often two sets of logits (N, Z) have their largest in the same place."""
    return float((before.argmax(1) == now.argmax(1)).double().mean())


def divergence(before: Tensor, now: Tensor) -> float:
    """Mean KL(softmax(before) || softmax(now)) of logits (N, Z), in nats."""
    p, q = before.double().log_softmax(1), now.double().log_softmax(1)
    return float((p.exp() * (p - q)).sum(1).mean())


def distance(before: list[Tensor], now: list[Tensor]) -> float:
    """Length of the step from one set of parameters (any shape) to another, against the length of the first."""
    moved = torch.stack([(a.double() - b.double()).square().sum() for a, b in zip(now, before, strict=True)]).sum()
    length = torch.stack([b.double().square().sum() for b in before]).sum()
    return float((moved / length.clamp(min=1e-30)).sqrt())
