"""Stage tables of torchvision's classification networks, one per family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tl_lightning.backbones.backbone import Stage, pool_map
from tl_lightning.backbones.from_torchvision.stages import by_patches, by_pooling, by_stride, chain, flat_pool, through
from tl_lightning.compat import patches, rescaled
from tl_lightning.errors import UserError


@dataclass(frozen=True)
class Family:
    """How to read the networks of one family.

    `stages` makes the table from a net; `head` is the dotted name of the last layer of its classifier; `readout` makes
    features of what the last stage gives, as (net, output), and `pool` of what any other does; `unused` are parts that
    never run here; `width` is the feature length where that differs from the classifier's input; `options` go to
    torchvision's builder, with the number of pixels as `sized` if that is named, which must be a multiple of `grid`,
    and whether to draw random weights as `drawn`.
    """

    stages: Callable[[Any], Sequence[Stage]]
    head: str
    readout: Callable[[Any, Tensor], Tensor] = flat_pool
    pool: Callable[[Tensor], Tensor] = pool_map
    unused: tuple[str, ...] = ()
    width: int | None = None
    options: tuple[tuple[str, Any], ...] = ()
    sized: Callable[[int], dict[str, Any]] | None = None
    grid: Callable[[str], int] | None = None
    drawn: str | None = None


def _resnet(net: Any) -> list[Stage]:
    layers = [chain(f"layer{i}", f"layer{i}") for i in (1, 2, 3)]
    return [chain("stem", "conv1", "bn1", "relu", "maxpool"), *layers, chain("layer4", "layer4")]


def _regnet(net: Any) -> list[Stage]:
    blocks = [f"trunk_output.block{i}" for i in (1, 2, 3, 4)]
    return [
        chain("stem", "stem"),
        *(chain(f"block{i}", b) for i, b in enumerate(blocks[:-1], 1)),
        chain("block4", blocks[-1]),
    ]


def _densenet(net: Any) -> list[Stage]:
    """A transition, which shrinks the map, ends the block before it, as in the paper (arXiv:1608.06993)."""

    def end(net: Any, x: Tensor) -> Tensor:
        return F.relu(x)  # functional in torchvision

    stem = chain("stem", *(f"features.{part}" for part in ("conv0", "norm0", "relu0", "pool0")))
    blocks = [chain(f"block{i}", f"features.denseblock{i}", f"features.transition{i}") for i in (1, 2, 3)]
    return [stem, *blocks, chain("block4", "features.denseblock4", "features.norm5", end=end)]


def _shufflenet(net: Any) -> list[Stage]:
    return [
        chain("stem", "conv1", "maxpool"),
        chain("stage2", "stage2"),
        chain("stage3", "stage3"),
        chain("stage4", "stage4", "conv5"),
    ]


def _rescaled(stem: Stage) -> Stage:
    """The stem of a network whose weights were trained on (x - 0.5) / 0.5, see torchvision's transform_input."""
    return Stage(stem.name, stem.prefixes, lambda net, x: stem.run(net, rescaled(net, x)))


def _inception(net: Any) -> list[Stage]:
    return [
        _rescaled(chain("stem", "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1")),
        chain("conv", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
        chain("mixed5", *(f"Mixed_5{c}" for c in "bcd")),
        chain("mixed6", *(f"Mixed_6{c}" for c in "abcde")),
        chain("mixed7", *(f"Mixed_7{c}" for c in "abc")),
    ]


def _googlenet(net: Any) -> list[Stage]:
    return [
        _rescaled(chain("stem", "conv1", "maxpool1")),
        chain("conv", "conv2", "conv3", "maxpool2"),
        chain("inception3", "inception3a", "inception3b", "maxpool3"),
        chain("inception4", *(f"inception4{c}" for c in "abcde"), "maxpool4"),
        chain("inception5", "inception5a", "inception5b"),
    ]


def _mean(net: Any, x: Tensor) -> Tensor:
    """The spatial mean, of networks that have no module for it."""
    return pool_map(x)


def _fully_connected(net: Any) -> list[Stage]:
    fc6 = Stage("fc6", tuple(f"classifier.{i}" for i in (0, 1, 2)), _fc6)
    return [*by_pooling(net), fc6, chain("fc7", *(f"classifier.{i}" for i in (3, 4, 5)))]


def _fc6(net: Any, x: Tensor) -> Tensor:
    return through("classifier.0", "classifier.1", "classifier.2")(net, flat_pool(net, x))


def _mobilenet_v3_readout(net: Any, x: Tensor) -> Tensor:
    """Its classifier has a pretrained hidden layer, which belongs to the last stage."""
    return through("classifier.0", "classifier.1")(net, flat_pool(net, x))


def _convnext_readout(net: Any, x: Tensor) -> Tensor:
    """classifier[0] is a pretrained LayerNorm after the pooling."""
    return torch.flatten(net.classifier[0](net.avgpool(x)), 1)


def _swin(net: Any) -> list[Stage]:
    def end(net: Any, x: Tensor) -> Tensor:
        normalised: Tensor = net.permute(net.norm(x))
        return normalised

    return by_patches("norm", end)


# Its classifier normalises and mixes the pooled features by pretrained layers, which belong to the last stage.
_MAXVIT_READOUT = tuple(f"classifier.{i}" for i in range(5))


def _maxvit(net: Any) -> list[Stage]:
    return [
        chain("stem", "stem"),
        *(chain(f"block{i}", f"blocks.{i - 1}") for i in (1, 2, 3)),
        chain("block4", "blocks.3", also=_MAXVIT_READOUT),
    ]


def _vit(net: Any) -> list[Stage]:
    def tokens(net: Any, x: Tensor) -> Tensor:
        x = patches(net, x)
        x = torch.cat([net.class_token.expand(x.shape[0], -1, -1), x], 1)
        embedded: Tensor = net.encoder.dropout(x + net.encoder.pos_embedding)
        return embedded

    def end(net: Any, x: Tensor) -> Tensor:
        normalised: Tensor = net.encoder.ln(x)
        return normalised

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


def _class_token(net: Any, x: Tensor) -> Tensor:
    """(N, 1 + P, C) to (N, C)."""
    return x[:, 0]


def _as_it_is(net: Any, x: Tensor) -> Tensor:
    """Features (N, D) already."""
    return x


# transform_input is a fixed rescaling of the input, on for every set of weights so that a run reloads alike
_NO_AUXILIARY = (("aux_logits", False), ("transform_input", True))
_FULLY_CONNECTED = Family(_fully_connected, "classifier.6", _as_it_is)
_RESNET = Family(_resnet, "fc")
_STRIDED = Family(by_stride("features"), "classifier.1", _mean)
FAMILIES: dict[str, Family] = {
    "alexnet": Family(by_pooling, "classifier.6", _mean, unused=("classifier",), width=256),
    "vgg": Family(by_pooling, "classifier.6", _mean, unused=("classifier",), width=512),
    "squeezenet": Family(by_pooling, "classifier.1", _mean, unused=("classifier",), width=512),
    "resnet": _RESNET,
    "resnext": _RESNET,
    "wide_resnet": _RESNET,
    "regnet": Family(_regnet, "fc"),
    "densenet": Family(_densenet, "classifier", _mean),
    "googlenet": Family(_googlenet, "fc", unused=("aux1", "aux2"), options=_NO_AUXILIARY, drawn="init_weights"),
    "inception": Family(_inception, "fc", unused=("AuxLogits",), options=_NO_AUXILIARY, drawn="init_weights"),
    "shufflenet": Family(_shufflenet, "fc", _mean),
    "mnasnet": Family(by_stride("layers"), "classifier.1", _mean),
    "mobilenet_v2": _STRIDED,
    "mobilenet_v3": Family(
        by_stride("features", ("classifier.0", "classifier.1")), "classifier.3", _mobilenet_v3_readout
    ),
    "efficientnet": _STRIDED,
    "convnext": Family(lambda net: by_patches("classifier.0"), "classifier.2", _convnext_readout),
    "vit": Family(
        _vit,
        "heads.head",
        _class_token,
        pool_patches,
        sized=lambda pixels: {"image_size": pixels},
        grid=lambda name: int(name.rsplit("_", 1)[1]),
    ),
    "swin_": Family(_swin, "head", pool=pool_channels_last),
    "maxvit": Family(
        _maxvit,
        "classifier.5",
        through(*_MAXVIT_READOUT),
        sized=lambda pixels: {"input_size": (pixels, pixels)},
        grid=lambda name: 224,
    ),
}


def family_of(name: str, features: str = "pooled") -> Family:
    """The family of a torchvision model name; `features` chooses VGG's pooled maps or its fully connected layers.

    Raises UserError for a network or features that are unknown.
    """
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
