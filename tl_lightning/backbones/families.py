"""Stage tables of torchvision's classification networks, one per family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tl_lightning.backbones.backbone import Stage, pool_map
from tl_lightning.backbones.stages import (
    by_patches,
    by_pooling,
    by_stride,
    chain,
    flat_pool,
    mean_pool,
    through,
)
from tl_lightning.errors import UserError


@dataclass(frozen=True)
class Family:
    """How to read the networks of one family.

    `stages` makes the table from a net; `head` is the dotted name of the last layer of its classifier; `unused`
    are parts that never run here; `width` is the feature length where that differs from the classifier's input;
    `options` go to torchvision's builder, with the number of pixels as `sized` if that is named, which must be a
    multiple of `grid`, and whether to draw random weights as `drawn`.
    """

    stages: Callable[[Any], Sequence[Stage]]
    head: str
    pool: Callable[[Tensor], Tensor] = pool_map
    unused: tuple[str, ...] = ()
    width: int | None = None
    options: tuple[tuple[str, Any], ...] = ()
    sized: Callable[[int], dict[str, Any]] | None = None
    grid: Callable[[str], int] | None = None
    drawn: str | None = None


def _resnet(net: Any) -> list[Stage]:
    layers = [chain(f"layer{i}", f"layer{i}") for i in (1, 2, 3)]
    return [chain("stem", "conv1", "bn1", "relu", "maxpool"), *layers, chain("layer4", "layer4", end=flat_pool)]


def _regnet(net: Any) -> list[Stage]:
    blocks = [f"trunk_output.block{i}" for i in (1, 2, 3, 4)]
    return [
        chain("stem", "stem"),
        *(chain(f"block{i}", b) for i, b in enumerate(blocks[:-1], 1)),
        chain("block4", blocks[-1], end=flat_pool),
    ]


def _densenet(net: Any) -> list[Stage]:
    """A transition, which shrinks the map, ends the block before it, as in the paper (arXiv:1608.06993)."""

    def end(net: Any, x: Tensor) -> Tensor:
        return pool_map(F.relu(x))  # functional in torchvision

    stem = chain("stem", *(f"features.{part}" for part in ("conv0", "norm0", "relu0", "pool0")))
    blocks = [chain(f"block{i}", f"features.denseblock{i}", f"features.transition{i}") for i in (1, 2, 3)]
    return [stem, *blocks, chain("block4", "features.denseblock4", "features.norm5", end=end)]


def _shufflenet(net: Any) -> list[Stage]:
    return [
        chain("stem", "conv1", "maxpool"),
        chain("stage2", "stage2"),
        chain("stage3", "stage3"),
        chain("stage4", "stage4", "conv5", end=mean_pool),
    ]


def _rescaled(stem: Stage) -> Stage:
    """The stem of a network whose weights were trained on (x - 0.5) / 0.5, see torchvision's transform_input."""
    return Stage(stem.name, stem.prefixes, lambda net, x: stem.run(net, net._transform_input(x)))


def _inception(net: Any) -> list[Stage]:
    return [
        _rescaled(chain("stem", "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1")),
        chain("conv", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
        chain("mixed5", *(f"Mixed_5{c}" for c in "bcd")),
        chain("mixed6", *(f"Mixed_6{c}" for c in "abcde")),
        chain("mixed7", *(f"Mixed_7{c}" for c in "abc"), end=flat_pool),
    ]


def _googlenet(net: Any) -> list[Stage]:
    return [
        _rescaled(chain("stem", "conv1", "maxpool1")),
        chain("conv", "conv2", "conv3", "maxpool2"),
        chain("inception3", "inception3a", "inception3b", "maxpool3"),
        chain("inception4", *(f"inception4{c}" for c in "abcde"), "maxpool4"),
        chain("inception5", "inception5a", "inception5b", end=flat_pool),
    ]


def _pooled(net: Any) -> list[Stage]:
    return by_pooling(net, mean_pool)


def _fully_connected(net: Any) -> list[Stage]:
    fc6 = chain("fc6", *(f"classifier.{i}" for i in (0, 1, 2)))
    fc7 = chain("fc7", *(f"classifier.{i}" for i in (3, 4, 5)))
    return [*by_pooling(net, flat_pool), fc6, fc7]


def _mobilenet_v3(net: Any) -> list[Stage]:
    """Its classifier has a pretrained hidden layer, which belongs to the last stage."""

    def end(net: Any, x: Tensor) -> Tensor:
        return through("classifier.0", "classifier.1")(net, flat_pool(net, x))

    return by_stride("features", end, ("classifier.0", "classifier.1"))(net)


def _convnext(net: Any) -> list[Stage]:
    def end(net: Any, x: Tensor) -> Tensor:  # classifier[0] is a pretrained LayerNorm after the pooling
        return torch.flatten(net.classifier[0](net.avgpool(x)), 1)

    return by_patches(end, norm="classifier.0")


def _swin(net: Any) -> list[Stage]:
    def end(net: Any, x: Tensor) -> Tensor:
        return torch.flatten(net.avgpool(net.permute(net.norm(x))), 1)

    return by_patches(end, norm="norm")


def _maxvit(net: Any) -> list[Stage]:
    """Its classifier normalises and mixes the pooled features by pretrained layers, which belong to the last stage."""
    before_last = tuple(f"classifier.{i}" for i in range(5))
    return [
        chain("stem", "stem"),
        *(chain(f"block{i}", f"blocks.{i - 1}") for i in (1, 2, 3)),
        chain("block4", "blocks.3", *before_last),
    ]


def _vit(net: Any) -> list[Stage]:
    def tokens(net: Any, x: Tensor) -> Tensor:
        x = net._process_input(x)
        x = torch.cat([net.class_token.expand(x.shape[0], -1, -1), x], 1)
        embedded: Tensor = net.encoder.dropout(x + net.encoder.pos_embedding)
        return embedded

    def end(net: Any, x: Tensor) -> Tensor:
        normalised: Tensor = net.encoder.ln(x)
        return normalised[:, 0]

    layers = [f"encoder.layers.{name}" for name, _ in net.encoder.layers.named_children()]
    quarter = len(layers) // 4
    blocks = [layers[i * quarter : (i + 1) * quarter] for i in range(4)]
    stem = Stage("stem", ("conv_proj", "class_token", "encoder.pos_embedding", "encoder.dropout"), tokens)
    middle = [chain(f"block{i}", *b) for i, b in enumerate(blocks[:-1], 1)]
    return [stem, *middle, chain("block4", *blocks[-1], end=end, also=("encoder.ln",))]


def pool_patches(x: Tensor) -> Tensor:
    """(N, 1 + P, C) to (N, C) by the mean over patches: the class token has seen little of the image below the top."""
    return x[:, 1:].mean(1)


def pool_channels_last(x: Tensor) -> Tensor:
    """(N, H, W, C) to (N, C) by the spatial mean."""
    return x.mean((1, 2))


# transform_input is a fixed rescaling of the input, on for every set of weights so that a run reloads alike
_NO_AUXILIARY = (("aux_logits", False), ("transform_input", True))
_FULLY_CONNECTED = Family(_fully_connected, "classifier.6")
_RESNET = Family(_resnet, "fc")
_STRIDED = Family(by_stride("features"), "classifier.1")
FAMILIES: dict[str, Family] = {
    "alexnet": Family(_pooled, "classifier.6", unused=("classifier",), width=256),
    "vgg": Family(_pooled, "classifier.6", unused=("classifier",), width=512),
    "squeezenet": Family(_pooled, "classifier.1", unused=("classifier",), width=512),
    "resnet": _RESNET,
    "resnext": _RESNET,
    "wide_resnet": _RESNET,
    "regnet": Family(_regnet, "fc"),
    "densenet": Family(_densenet, "classifier"),
    "googlenet": Family(_googlenet, "fc", unused=("aux1", "aux2"), options=_NO_AUXILIARY, drawn="init_weights"),
    "inception": Family(_inception, "fc", unused=("AuxLogits",), options=_NO_AUXILIARY, drawn="init_weights"),
    "shufflenet": Family(_shufflenet, "fc"),
    "mnasnet": Family(by_stride("layers"), "classifier.1"),
    "mobilenet_v2": _STRIDED,
    "mobilenet_v3": Family(_mobilenet_v3, "classifier.3"),
    "efficientnet": _STRIDED,
    "convnext": Family(_convnext, "classifier.2"),
    "vit": Family(
        _vit,
        "heads.head",
        pool=pool_patches,
        sized=lambda pixels: {"image_size": pixels},
        grid=lambda name: int(name.rsplit("_", 1)[1]),
    ),
    "swin_": Family(_swin, "head", pool=pool_channels_last),
    "maxvit": Family(
        _maxvit, "classifier.5", sized=lambda pixels: {"input_size": (pixels, pixels)}, grid=lambda name: 224
    ),
}


def family_of(name: str, features: str = "pooled") -> Family:
    """The family of a torchvision model name; `features` chooses VGG's pooled maps or its fully connected layers."""
    if features not in ("pooled", "fc"):
        raise UserError(f"features='{features}' is unknown: use 'pooled' or 'fc'")
    if features == "fc":
        if not name.startswith(("vgg", "alexnet")):
            raise UserError(
                f"features=fc is for VGG and AlexNet, whose fully connected layers are pretrained; {name} has none"
            )
        return _FULLY_CONNECTED
    for prefix, family in FAMILIES.items():
        if name.startswith(prefix):
            return family
    raise UserError(f"torchvision's {name} has no stage table; families known: {', '.join(FAMILIES)}")
