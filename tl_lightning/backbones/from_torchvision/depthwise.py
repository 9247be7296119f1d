"""Depthwise convolutions on maps of one or two pixels, as the last stages have for images below 96 pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SmallMapConv2d(nn.Conv2d):
    """A convolution that pads small maps itself where it learns on a CPU; the same output and gradients.

    oneDNN has no kernel for the weights' gradient of a depthwise convolution on maps of one or two pixels, and its
    reference takes 20 to 40 times as long as the same work on maps that were padded before: half of a step of
    MobileNetV2 on images of 32 pixels (benchmarks/benchmark.py small).
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.device.type == "cpu" and weight.requires_grad and max(x.shape[-2:]) <= 2:
            padded = F.pad(x, self._reversed_padding_repeated_twice)
            return F.conv2d(padded, weight, bias, self.stride, 0, self.dilation, self.groups)
        output: Tensor = super()._conv_forward(x, weight, bias)
        return output


def quicken(net: nn.Module) -> None:
    """Make every depthwise convolution of `net` that pads with zeros such a one."""
    for module in net.modules():
        if type(module) is nn.Conv2d and module.groups > 1 and module.padding_mode == "zeros":
            module.__class__ = SmallMapConv2d
