"""Small maps through depthwise convolutions: as torchvision's own network, gradients included."""

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from tl_lightning.backbones.from_torchvision.depthwise import SmallMapConv2d, quicken


@pytest.mark.parametrize("size", [32, 64, 96])
def test_output_and_gradients_are_the_networks_own(size):
    torch.manual_seed(0)
    plain = mobilenet_v2().double()
    quick = mobilenet_v2().double()
    quick.load_state_dict(plain.state_dict())
    quicken(quick)
    assert sum(type(m) is SmallMapConv2d for m in quick.modules()) == 17
    images = torch.randn(4, 3, size, size, dtype=torch.float64)
    for net in (plain, quick):
        net.eval()  # no dropout
        net(images).square().sum().backward()
    for (name, one), two in zip(plain.named_parameters(), quick.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-9, atol=1e-12, msg=name)


def test_maps_as_small_as_the_padding_are_padded_beforehand(monkeypatch):
    """What makes it quick: the convolution itself is not asked to pad."""
    seen = []
    original = nn.functional.conv2d

    def look(x, weight, bias, stride, padding, *rest):
        seen.append((tuple(x.shape[-2:]), padding))
        return original(x, weight, bias, stride, padding, *rest)

    monkeypatch.setattr(nn.functional, "conv2d", look)
    conv = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    quicken(conv)
    conv(torch.randn(1, 8, 2, 2))
    conv(torch.randn(1, 8, 3, 3))
    conv.requires_grad_(False)
    conv(torch.randn(1, 8, 2, 2))
    assert seen == [((4, 4), 0), ((3, 3), (1, 1)), ((2, 2), (1, 1))]
