"""The contract of every backbone, of torchvision, timm and transformers, against the library's own forward."""

import sys

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import get_model, list_models
from torchvision.models.regnet import BlockParams
from torchvision.ops import StochasticDepth

from tests.zoo import CASES, TEXT, TIMM, Case
from tl_lightning.backbones import torchvision as backbone
from tl_lightning.backbones.from_torchvision.families import FAMILIES, family_of
from tl_lightning.backbones.taps import cut_after
from tl_lightning.batch import map_tensors
from tl_lightning.config.compose import composed
from tl_lightning.errors import UserError
from tl_lightning.options import options

NAMES = list_models(module=torchvision.models)


@torch.no_grad()
def check_stages(case, network, x):
    """Equal to the library's own forward; parameters and moody modules partitioned; stages compose."""
    # equal to the library's own forward, less its classifier
    output, own = network(x), case.own(network, x)
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
        halfway = network.run(x, 0, middle)
        torch.testing.assert_close(network(halfway, middle), output, rtol=0, atol=0)


def check_frozen(case, network, x):
    """Gradients reach every parameter of the stages that learn; those below give in training what they give in use."""
    frozen = len(network.stages) // 2
    with torch.no_grad():
        below = network.run(x, 0, frozen)
    network.train()
    for i, stage in enumerate(network.stages):
        for _, parameter in network.stage_parameters(stage):
            parameter.requires_grad_(i >= frozen)
        for module in network.stage_modules(stage):
            module.training = i >= frozen and not isinstance(module, nn.modules.batchnorm._BatchNorm)
    torch.manual_seed(1)
    network(x).square().sum().backward()
    first = frozen if case.library != "text" else max(frozen, 1)
    for i, stage in enumerate(network.stages):
        missing = [n for n, p in network.stage_parameters(stage) if p.grad is None]
        assert missing == ([] if i >= first else [n for n, _ in network.stage_parameters(stage)]), stage.name
    assert torch.equal(network.run(x, 0, frozen), below)


@torch.no_grad()
def check_taps(case, network, given):
    """No stage overwrites its input, every tap tells two inputs apart, and one pass shows what all stages give."""
    x, outputs, untouched = given, [], map_tensors(torch.clone, given)
    for i in range(len(network.stages)):
        x = network.run(x, i, i + 1)
        outputs.append((x, x.clone()))
        first, second = network.pooled(i, x)
        assert not torch.allclose(first, second, rtol=1e-3), network.stage_names[i]
    for kept, copy in outputs:
        assert torch.equal(kept, copy)
    for kept, copy in zip(parts_of(given), parts_of(untouched), strict=True):
        assert torch.equal(kept, copy)
    for start in (0, len(network.stages) // 2):
        shown = {}
        with network.observing(lambda i, y: shown.__setitem__(i, y.clone())):  # noqa: B023
            network.run(outputs[start - 1][0] if start else given, start)
        assert list(shown) == list(range(start, len(network.stages)))
        assert all(torch.equal(y, outputs[i][1]) for i, y in shown.items())


def parts_of(inputs):
    return [inputs] if isinstance(inputs, torch.Tensor) else list(inputs.values())


@torch.no_grad()
def check_cut(case, network, x):
    """A cut pools normalised taps, and drops the rest."""
    upto = network.stage_names[1]
    x0 = network.run(x, 0, 1)
    taps = [network.pooled(0, x0), network.pooled(1, network.run(x0, 1, 2))]
    expected = torch.cat([t / t.pow(2).mean(1, keepdim=True).sqrt() for t in taps], 1)
    kept = {n for s in network.stages[:2] for n, _ in network.stage_parameters(s)}
    short = cut_after(network, upto)
    torch.testing.assert_close(short(x), expected, rtol=1e-4, atol=1e-5)
    assert short.feature_dim == expected.shape[1]
    assert {n for n, _ in short.net.named_parameters()} == kept


@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case):
    network, x = case.build()
    check_stages(case, network, x)
    check_taps(case, network, x)
    if case.library == "torchvision":
        check_whole(case, network, x)
    check_frozen(case, network, x)
    check_cut(case, network.eval(), x)  # last: it takes stages out


@torch.no_grad()
def check_whole(case, network, images):
    """Same parameters in an untouched torchvision model: our features through its classifier give its logits."""
    name, family, size = case.name, family_of(case.name, case.features), images.shape[-1]
    options = dict(family.options) | (family.sized(size) if family.sized else {})
    options |= {family.drawn: False} if family.drawn else {}
    whole = get_model(name, weights=None, **options).eval()
    missing, unexpected = whole.load_state_dict(network.net.state_dict(), strict=False)
    assert not unexpected
    assert all(key.split(".")[0] in ("fc", "classifier", "heads", "head") for key in missing)
    if family.unused == ("classifier",):
        torch.testing.assert_close(network(images), whole.features(images).mean((2, 3)), rtol=1e-6, atol=1e-6)
        return
    last = whole.get_submodule(family.head)
    torch.testing.assert_close(last(network(images)), whole(images), rtol=1e-5, atol=1e-5)


def test_every_network_of_torchvision_has_a_table_and_an_option():
    """torchvision's own registry: a model that is new there fails here."""
    assert [n for n in NAMES if not n.startswith(tuple(FAMILIES))] == []
    assert set(options("backbone")) - {
        "mobilenet_v2_formula",
        "torchvision",
        "timm",
        "text",
        "minilm",
        "efficientnet_lite0",
    } == set(NAMES)


def test_every_option_composes():
    for name in NAMES:
        assert composed([f"backbone={name}"])["backbone"]["name"] == name


def compute_widths_on_the_cpu(monkeypatch):
    """RegNet's widths are computed with tensors, whose values the meta device has not."""
    make = BlockParams.from_init_params

    def made(*args, **kwargs):
        with torch.device("cpu"):
            return make(*args, **kwargs)

    monkeypatch.setattr(BlockParams, "from_init_params", made)


@pytest.mark.parametrize("part", range(4))
def test_every_network_takes_a_step(part, monkeypatch):
    """Forward and backward of a batch with a new head, in shapes alone: every parameter gets a gradient."""
    compute_widths_on_the_cpu(monkeypatch)
    names = NAMES[part::4]
    for name in names:
        size = {"maxvit_t": 224, "inception_v3": 96, "vit_h_14": 56}.get(name, 64)
        with torch.device("meta"):
            network = backbone(name, None, size).train()
            logits = nn.Linear(network.feature_dim, 3)(network(torch.zeros(2, 3, size, size)))
            nn.functional.cross_entropy(logits, torch.zeros(2, dtype=torch.long)).backward()
        assert [n for n, p in network.named_parameters() if p.grad is None] == [], name
        owned = [n for s in network.stages for n, _ in network.stage_parameters(s)]
        assert sorted(owned) == sorted(n for n, _ in network.net.named_parameters()), name


def test_how_many_backbones_there_are():
    """Those of torchvision, and of the other libraries those that the tests above train."""
    number = len(NAMES) + len(TIMM) + len(TEXT)
    sys.__stdout__.write(f"\n{number} backbones: {len(NAMES)} of torchvision, {len(TIMM)} timm, {len(TEXT)} text\n")
    assert number >= 100


def test_vgg_features():
    assert Case("torchvision", "vgg11_bn").build()[0].feature_dim == 512
    network = Case("torchvision", "alexnet", "fc").build()[0]
    assert network.feature_dim == 4096
    assert network.stage_names[-2:] == ["fc6", "fc7"]
    with pytest.raises(UserError, match="features=fc is for VGG"):
        backbone("resnet18", None, 64, "fc")


def test_inception_has_no_auxiliary_head_and_rescales_its_input():
    network, images = Case("torchvision", "inception_v3").build()
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
    from tl_lightning.backbones.from_torchvision import entries

    entry, path = entries.find(name, "DEFAULT")
    image = entries.image_input(entry)
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
        cut_after(Case("torchvision", "resnet18").build()[0], "layer9")
