"""BatchNorm in evaluation mode is a scale and a shift: the convolution before it can take them over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from tl_lightning.compat import convolve


def pairs(net: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """(parent, name of a convolution, name of the BatchNorm that takes its output).

    Siblings in the order in which they were registered: that they run in it holds for torchvision's networks, which
    tests check; of timm's each is tried when it is built (`holds`), and where it does not hold, nothing is paired.
    """
    if getattr(net, "folds", True) is False:
        return []
    return [
        (parent, before, after)
        for parent in net.modules()
        for (before, conv), (after, norm) in pairwise(parent.named_children())
        if isinstance(conv, nn.Conv2d) and type(conv).forward is nn.Conv2d.forward
        if isinstance(norm, nn.BatchNorm2d) and (type(norm).forward is nn.BatchNorm2d.forward or _then(norm))
        if conv.out_channels == norm.num_features and norm.track_running_stats and norm.affine
        if not is_parametrized(conv)
    ]


def fold(net: nn.Module) -> None:
    """Put every BatchNorm into the convolution before it, for good: for inference alone."""
    for parent, conv, norm in pairs(net):
        setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
        setattr(parent, norm, nn.Sequential(*_then(getattr(parent, norm))))


def _then(norm: nn.Module) -> list[nn.Module]:
    """What a BatchNorm of timm does after it has normalised: it drops and activates."""
    return [norm.drop, norm.act] if type(norm).__name__ == "BatchNormAct2d" else []  # type: ignore[list-item]


@torch.no_grad()
def holds(net: nn.Module, x: Tensor) -> bool:
    """Whether folding leaves the output for images (N, 3, H, W) as it is, under statistics that tell norms apart."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]
    kept = [(m, m.running_mean.clone(), m.running_var.clone()) for m in norms]  # type: ignore[union-attr]
    try:
        for m, _, _ in kept:
            m.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            m.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        expected = net(x)
        with Folding(net).active():
            error = (net(x) - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
    finally:
        for m, mean, var in kept:
            m.running_mean.copy_(mean)  # type: ignore[union-attr]
            m.running_var.copy_(var)  # type: ignore[union-attr]
    return bool(error < 1e-3)


class Folding:
    """While it is active, convolutions do the work of the BatchNorms in evaluation mode, gradients included.

    Output and gradients are the same within rounding, but no activation is read, written or kept for the BatchNorm:
    a training step of MobileNetV2 takes two thirds of the time. Modules, parameters and their names stay as they are.
    """

    def __init__(self, net: nn.Module) -> None:
        found = [(getattr(parent, conv), getattr(parent, norm)) for parent, conv, norm in pairs(net)]
        # made once: the compiler knows a function again by its identity
        self.pairs = [(c, n, partial(_scaled, c, n), partial(_after, _then(n))) for c, n in found]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Fold what is in evaluation mode now; a BatchNorm in training mode is left alone."""
        still = [pair for pair in self.pairs if not pair[1].training]
        for conv, norm, scaled, after in still:  # an attribute hides the method
            conv.__dict__["forward"], norm.__dict__["forward"] = scaled, after
        try:
            yield
        finally:
            for conv, norm, _, _ in still:
                del conv.__dict__["forward"], norm.__dict__["forward"]


def _scaled(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    output: Tensor = convolve(conv, x, conv.weight * scale[:, None, None, None], norm.bias - mean * scale)
    return output


def _after(then: list[nn.Module], x: Tensor) -> Tensor:
    for module in then:
        x = module(x)
    return x
