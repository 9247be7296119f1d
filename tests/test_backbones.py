"""The contract of every backbone, against torchvision's own forward and bookkeeping."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.ops import StochasticDepth

from tl_lightning.backbones.torchvision import backbone
from tl_lightning.errors import UserError
from tl_lightning.runs.cli import choices

SMALL = {"inception_v3": 96}
NAMES = [n for n in choices("backbone") if not n.endswith("_formula")]
CASES = [(n, "pooled") for n in NAMES] + [("vgg16", "fc"), ("vgg19_bn", "fc")]
# Deep networks of one family run the same table as the smallest: contract on all, gradients on these.
ONE_PER_FAMILY = [("vgg16", "pooled"), ("vgg16", "fc"), ("resnet18", "pooled"), ("inception_v3", "pooled"),
                  ("mobilenet_v2", "pooled"), ("efficientnet_b0", "pooled"), ("convnext_tiny", "pooled"),
                  ("vit_b_16", "pooled"), ("swin_t", "pooled")]  # fmt: skip


def build(name, features="pooled"):
    torch.manual_seed(0)
    size = SMALL.get(name, 64)
    network = backbone(name, None, size, **({"features": "fc"} if features == "fc" else {}))
    images = torch.randn(2, 3, size, size)
    warm_norms(network, images)
    return network.eval(), images


@torch.no_grad()
def warm_norms(network, images):
    """Random weights shrink a signal to 1e-14 layer by layer: statistics of real activations keep it comparable."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    network.train()(images)
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum


def test_the_list_is_whole():
    assert len(NAMES) == 21


@pytest.mark.parametrize(("name", "features"), CASES)
@torch.no_grad()
def test_contract(name, features):
    network, images = build(name, features)
    # equal to the library's own forward, less its classifier
    own = (
        network.net.features(images).mean((2, 3)) if (name[:3], features) == ("vgg", "pooled") else network.net(images)
    )
    output = network(images)
    assert output.shape == (2, network.feature_dim)
    assert output.abs().max() > 1e-6
    torch.testing.assert_close(output, own, rtol=1e-6, atol=1e-6)
    # every parameter in exactly one stage
    owned = [n for s in network.stages for n, _ in network.stage_parameters(s)]
    assert sorted(owned) == sorted(n for n, _ in network.net.named_parameters())
    # every module that behaves differently in training is in a stage, so that frozen can mean eval
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, StochasticDepth)
    moody = {m for m in network.net.modules() if isinstance(m, kinds) and getattr(m, "p", 1) > 0}
    in_stages = {m for s in network.stages for m in network.stage_modules(s)}
    classifier_dropout = {m for m in moody - in_stages if isinstance(m, nn.Dropout)}
    assert moody - in_stages == classifier_dropout
    assert len(classifier_dropout) <= 1  # the one in front of the removed layer, which no stage runs
    # stages compose
    for middle in range(1, len(network.stages)):
        halfway = network.run(images, 0, middle)
        torch.testing.assert_close(network.run(halfway, middle), output, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "features"), ONE_PER_FAMILY)
@torch.no_grad()
def test_against_the_whole_library_model(name, features):
    """Same parameters in an untouched torchvision model: our features through its classifier give its logits."""
    network, images = build(name, features)
    options = {"image_size": 64} if name.startswith("vit") else {}
    if name == "inception_v3":
        options = {"aux_logits": False, "transform_input": True, "init_weights": False}
    whole = get_model(name, weights=None, **options).eval()
    missing, unexpected = whole.load_state_dict(network.net.state_dict(), strict=False)
    assert not unexpected
    assert all(key.split(".")[0] in ("fc", "classifier", "heads", "head") for key in missing)
    if (name, features) == ("vgg16", "pooled"):
        expected = whole.features(images).mean((2, 3))
        torch.testing.assert_close(network(images), expected, rtol=1e-6, atol=1e-6)
        return
    last = [m for m in whole.modules() if isinstance(m, nn.Linear)][-1]
    torch.testing.assert_close(last(network(images)), whole(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "features"), ONE_PER_FAMILY)
def test_taps_survive_later_stages(name, features):
    """No stage overwrites its input in place, so that a stage's output can be kept."""
    network, images = build(name, features)
    x, outputs = images, []
    with torch.no_grad():
        for i in range(len(network.stages)):
            x = network.run(x, i, i + 1)
            outputs.append((x, x.clone()))
    for kept, copy in outputs:
        assert torch.equal(kept, copy)


@pytest.mark.parametrize(("name", "features"), ONE_PER_FAMILY)
@torch.no_grad()
def test_cut_pools_normalised_taps_and_drops_the_rest(name, features):
    network, images = build(name, features)
    upto = network.stage_names[1]
    x0 = network.run(images, 0, 1)
    taps = [network.tap(x0), network.tap(network.run(x0, 1, 2))]
    expected = torch.cat([t / t.pow(2).mean(1, keepdim=True).sqrt() for t in taps], 1)
    kept = {n for s in network.stages[:2] for n, _ in network.stage_parameters(s)}
    short = network.cut(upto)
    torch.testing.assert_close(short(images), expected, rtol=1e-4, atol=1e-5)
    assert short.feature_dim == expected.shape[1]
    assert {n for n, _ in short.net.named_parameters()} == kept


@pytest.mark.parametrize(("name", "features"), ONE_PER_FAMILY)
@torch.no_grad()
def test_every_tap_tells_images_apart(name, features):
    network, images = build(name, features)
    x = images
    for i in range(len(network.stages)):
        x = network.run(x, i, i + 1)
        first, second = network.tap(x)
        assert not torch.allclose(first, second, rtol=1e-3), network.stage_names[i]


def test_vgg_features():
    assert build("vgg16")[0].feature_dim == 512
    network = build("vgg16", "fc")[0]
    assert network.feature_dim == 4096
    assert network.stage_names[-2:] == ["fc6", "fc7"]
    with pytest.raises(UserError, match="features=fc is for VGG"):
        backbone("resnet18", None, 64, "fc")


def test_inception_has_no_auxiliary_head_and_rescales_its_input():
    network, images = build("inception_v3")
    assert not any("AuxLogits" in n for n, _ in network.net.named_parameters())
    network.train()
    assert isinstance(network(images), torch.Tensor)
    network.eval()
    network.net.transform_input = False
    plain = network(images)
    network.net.transform_input = True
    assert not torch.allclose(network(images), plain)


# From torchvision's documentation of the weights: resize, crop, interpolation; training size where it differs.
GEOMETRY = {
    "vgg16": (256, 224, "bilinear", 224),
    "resnet50": (232, 224, "bilinear", 176),
    "inception_v3": (342, 299, "bilinear", 299),
    "mobilenet_v2": (232, 224, "bilinear", 224),
    "efficientnet_b0": (256, 224, "bicubic", 224),
    "efficientnet_b1": (255, 240, "bilinear", 240),
    "efficientnet_b2": (288, 288, "bicubic", 256),
    "efficientnet_b3": (320, 300, "bicubic", 288),
    "efficientnet_b4": (384, 380, "bicubic", 320),
    "efficientnet_b7": (600, 600, "bicubic", 600),
    "convnext_tiny": (236, 224, "bilinear", 224),
    "swin_t": (232, 224, "bicubic", 224),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_preprocessing_comes_from_the_weights(name):
    from tl_lightning.backbones import weights

    entry, path = weights.find(name, "DEFAULT")
    image = weights.image_input(entry)
    assert path is None
    assert (image.eval_resize, image.eval_size, image.interpolation, image.size) == GEOMETRY[name]
    assert image.mean == (0.485, 0.456, 0.406)


def test_image_size_replaces_the_weights_own():
    image = backbone("resnet50", None, 112).input
    assert (image.size, image.eval_size, image.eval_resize) == (112, 112, 116)
    with pytest.raises(UserError, match="at least 75 pixels"):
        backbone("inception_v3", None, 64)


def test_unknown_stage_names_the_nearest():
    with pytest.raises(UserError, match="no stage 'layer9': did you mean layer"):
        build("resnet18")[0].cut("layer9")
