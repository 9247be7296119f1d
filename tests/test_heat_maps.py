"""Heat maps against gradients by hand, against pytorch-grad-cam where it is installed, and against what is known."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.zoo import save_language_model
from tl_lightning.backbones import torchvision, transformers
from tl_lightning.backbones.heat_maps import grad_cam, token_relevance
from tl_lightning.errors import UserError

# A network, the module of the library whose output the map is of, and what brings that into (N, C, H, W).
LAYERS = {
    "mobilenet_v2": (lambda net: net.features[-1], None),
    "resnet18": (lambda net: net.layer4, None),
    "efficientnet_b0": (lambda net: net.features[-1], None),
    "convnext_tiny": (lambda net: net.features[-1], None),
    "swin_t": (lambda net: net.norm, lambda x: x.permute(0, 3, 1, 2)),
    "vit_b_16": (
        lambda net: net.encoder.layers[8],
        lambda x: x[:, 1:].reshape(len(x), 14, 14, -1).permute(0, 3, 1, 2),
    ),
}


def network(name):
    torch.manual_seed(0)
    backbone = torchvision(name, weights=None)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
    return nn.Sequential(backbone, nn.Linear(backbone.feature_dim, 5)).eval()


def likeliest(net, images):
    """Outputs that rise with something: of others the map is empty."""
    with torch.no_grad():
        return net(images).argmax(1)


@pytest.mark.parametrize("name", LAYERS)
def test_maps_are_those_of_the_paper(name):
    """By a hook on the library's own module, in the library's own forward."""
    net, (layer, reshape) = network(name), LAYERS[name]
    images, kept = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)), []
    answers = likeliest(net, images)
    found = grad_cam(net, images, answers)
    hook = layer(net[0].net).register_forward_hook(lambda module, given, output: kept.append(output))
    out = net(images)
    hook.remove()
    slope = torch.autograd.grad(out[torch.arange(2), answers].sum(), kept[0])[0]
    maps, slopes = (reshape(x) if reshape else x for x in (kept[0].detach(), slope))
    expected = (maps * slopes.mean((2, 3), keepdim=True)).sum(1).clamp(min=0)
    expected = expected / expected.amax((1, 2), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found.max() <= 1


def test_maps_agree_with_another_implementation():
    cam = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    net, (layer, _) = network("mobilenet_v2"), LAYERS["mobilenet_v2"]
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    answers = likeliest(net, images)
    mine = nn.functional.interpolate(grad_cam(net, images, answers)[:, None], size=(224, 224), mode="bilinear")[:, 0]
    theirs = cam.GradCAM(net, [layer(net[0].net)])(images, [targets.ClassifierOutputTarget(int(a)) for a in answers])
    assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(mine.numpy(), theirs, strict=True)) > 0.99


def test_the_map_lies_on_what_the_answer_is_read_from():
    """A head that reads brightness: the map is where the light is."""
    backbone = torchvision("resnet18", weights=None)
    net = nn.Sequential(backbone, nn.Linear(512, 1)).eval()
    images = torch.zeros(1, 3, 224, 224)
    images[..., :96, :96] = 3.0
    with torch.no_grad():
        lit, dark = (backbone.run(x).mean((2, 3))[0] for x in (images, torch.zeros_like(images)))
        net[1].weight.copy_((lit - dark)[None])
    found = grad_cam(net, images, torch.tensor([0]))[0]
    assert found[:3, :3].mean() > 2 * found[4:, 4:].mean()


def test_frozen_networks_have_maps_and_stay_as_they_are():
    net = network("resnet18").requires_grad_(False)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert grad_cam(net, images, likeliest(net, images)).shape == (1, 7, 7)
    assert not any(p.requires_grad or p.grad is not None for p in net.parameters())
    assert not net[0]._observers


def test_small_images_have_the_map_of_a_stage_that_keeps_places_apart():
    net = network("mobilenet_v2")
    assert grad_cam(net, torch.randn(1, 3, 64, 64), torch.tensor([0])).shape == (1, 4, 4)
    with pytest.raises(UserError, match="no stage of this network keeps places apart"):
        grad_cam(net, torch.randn(1, 3, 4, 4), torch.tensor([0]))


def test_tokens(tmp_path):
    """Gradient times input is what the output would lose to first order: the sum is the derivative along the input."""
    pytest.importorskip("transformers")
    save_language_model(tmp_path / "model", weights=True)
    backbone = transformers(str(tmp_path / "model"), length=16)
    net = nn.Sequential(backbone, nn.Linear(backbone.feature_dim, 2)).eval()
    tokens = backbone.input.tokens(["good fox", "awful dog"])
    found = token_relevance(net, tokens, torch.tensor([0, 1]))
    assert found.shape == tokens["input_ids"].shape
    table, wide = backbone.net.get_input_embeddings().weight, []
    with torch.no_grad():
        before = table.clone()
        for step in (1e-3, -1e-3):
            table.copy_(before * (1 + step))
            wide.append(net(tokens))
    slope = (wide[0] - wide[1])[torch.arange(2), [0, 1]] / 2e-3
    torch.testing.assert_close(found.sum(1), slope, rtol=2e-2, atol=1e-3)
