"""A BatchNorm that does not move is part of the convolution before it: same output, same gradients, same names."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from tests.tiny import tiny_backbone, tiny_data, tiny_module
from tests.zoo import CASES
from tl_lightning.backbones import torchvision as backbone
from tl_lightning.backbones.folding import Folding, fold, pairs
from tl_lightning.strategies.plan import HEAD, Phase, Plan

# BatchNorms that follow a convolution: all of them in these families, none in those that have none.
NUMBERS = {"resnet18": 20, "resnet50": 53, "mobilenet_v2": 52, "efficientnet_b0": 49, "inception_v3": 94,
           "vgg16_bn": 13, "vgg16": 0, "convnext_tiny": 0, "swin_t": 0, "vit_b_32": 0,
           "alexnet": 0, "squeezenet1_1": 0, "swin_v2_t": 0}  # fmt: skip
TIMM = (
    "efficientnet_b0",
    "mobilenetv3_small_100",
    "densenet121",
    "dla34",
    "xcit_nano_12_p16_224",
)  # activate in a norm
LARGE = ("maxvit_t",)
FOLDED = [c for c in CASES if c.features == "pooled" and NUMBERS.get(c.name, 1) and c.name not in LARGE
          if c.library == "torchvision" or (c.library == "timm" and c.name in TIMM)]  # fmt: skip
CONTRARY = ("densenet121",)  # some of whose BatchNorms come before a convolution


def in_use(network):
    """With statistics, scales and shifts as of use: folding placeholders would prove nothing."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.5, 2),
                                      (module.weight.data, 0.5, 2), (module.bias.data, -1, 1)):  # fmt: skip
                tensor.uniform_(low, high)
    return network.double().eval()


def of(name):
    return in_use(backbone(name, None, 96 if name == "inception_v3" else 64))


def gradients(network, images, context):
    network.zero_grad()
    with context:
        output = network(images)
    (output * torch.linspace(-1, 1, output.shape[1], dtype=output.dtype)).sum().backward()
    return output.detach(), {n: p.grad.clone() for n, p in network.named_parameters()}


@pytest.mark.parametrize(("name", "number"), NUMBERS.items())
def test_every_norm_has_its_convolution(name, number):
    network = of(name)
    folding = Folding(network.net).pairs
    norms = {m for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
    assert len(folding) == len(norms) == number
    assert {pair[1] for pair in folding} == norms


@pytest.mark.parametrize("case", FOLDED, ids=str)
def test_output_and_gradients_are_the_same(case):
    """In double precision, against torch's own BatchNorm."""
    network, images = case.build()
    network, images = in_use(network), images.double()
    folding = Folding(network.net)
    plain, expected = gradients(network, images, nullcontext())
    output, grads = gradients(network, images, folding.active())
    torch.testing.assert_close(output, plain, rtol=1e-9, atol=1e-9)
    assert expected.keys() == grads.keys()
    largest = max(gradient.norm() for gradient in expected.values())
    for parameter, gradient in expected.items():
        length = gradient.norm().clamp(min=1e-6 * largest)  # of some it is zero but for rounding
        error = (grads[parameter] - gradient).norm() / length
        assert error < 1e-9, parameter


@pytest.mark.parametrize("case", FOLDED, ids=str)
@torch.no_grad()
def test_folding_for_good_leaves_no_norm(case):
    network, images = case.build()
    network, images = in_use(network), images.double()
    expected = network(images)
    fold(network.net)
    assert pairs(network.net) == []
    if case.library == "torchvision" and case.name not in CONTRARY:
        assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)


def test_a_norm_in_training_mode_is_left_alone():
    network = in_use(tiny_backbone()).train()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    twin = copy.deepcopy(network)
    torch.manual_seed(3)  # of dropout
    expected = twin(images)
    torch.manual_seed(3)
    with Folding(network.net).active():
        assert torch.equal(network(images), expected)
    assert torch.equal(network.net.stem[1].running_mean, twin.net.stem[1].running_mean)
    assert int(network.net.stem[1].num_batches_tracked) == 1


def test_the_network_is_itself_again_also_after_an_error():
    network = in_use(tiny_backbone())
    names = list(network.state_dict())
    with pytest.raises(RuntimeError), Folding(network.net).active():
        assert list(network.state_dict()) == names
        network(torch.randn(1, 5, 16, 16, dtype=torch.float64))  # five channels
    assert not any("forward" in m.__dict__ for m in network.modules())


def test_the_learner_folds_what_stands_still(photos, monkeypatch):
    """Its logits are those of the parts one after another, and no BatchNorm of a stage in evaluation mode is run."""
    plan = Plan(("stem", "block1", "block2"), (Phase(None, {"stem": 0, "block1": 0, "block2": 1, HEAD: 1}),))
    module = tiny_module(plan, tiny_data(photos))
    in_use(module)
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    expected = module.head(module.backbone(images))
    calls = []
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: calls.append(self))
    torch.testing.assert_close(module(images), expected, rtol=1e-9, atol=1e-9)
    assert not calls


def test_compiled_code_is_used_again(photos):
    """One graph for all steps of a phase, and one for evaluation, where other BatchNorms stand still."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    plan = Plan(("stem", "block1", "block2"), (Phase(None, {"stem": 1, "block1": 1, "block2": 1, HEAD: 1}),))
    module, counter = tiny_module(plan, tiny_data(photos)), CompileCounter()
    in_use(module)
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    expected = module(images)
    module.backbone.compile(backend=counter)
    for graphs, training in ((1, False), (2, True), (2, False), (2, True)):
        module.backbone.net.block2[1].train(training)
        for _ in range(5):
            found = module(images)
        assert counter.frame_count == graphs
        if not training:
            torch.testing.assert_close(found, expected)


def test_a_copy_folds_its_own_parameters(photos):
    plan = Plan(("stem", "block1", "block2"), (Phase(None, {"stem": 0, "block1": 0, "block2": 1, HEAD: 1}),))
    module = tiny_module(plan, tiny_data(photos))
    in_use(module)
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        module.backbone.net.stem[0].weight.zero_()
    torch.testing.assert_close(twin(images), twin.head(twin.backbone(images)), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(twin.backbone(images), module.backbone(images))
