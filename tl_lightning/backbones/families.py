"""Stage tables of torchvision's classification networks, one per family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tl_lightning.backbones.backbone import Stage, pool_map
from tl_lightning.errors import UserError


@dataclass(frozen=True)
class Family:
    """How to read the networks of one family.

    `stages` makes the table from a net; `head` is the dotted name of the last layer of its classifier; `unused`
    are parts that never run here; `width` is the feature length where that differs from the classifier's input;
    `options` go to torchvision's builder.
    """

    stages: Callable[[Any], Sequence[Stage]]
    head: str
    pool: Callable[[Tensor], Tensor] = pool_map
    unused: tuple[str, ...] = ()
    width: int | None = None
    options: tuple[tuple[str, Any], ...] = ()


def _chain(name: str, *parts: str, end: Callable[[Any, Tensor], Tensor] | None = None) -> Stage:
    """A stage that calls the named modules one after another, then `end` if given."""

    def run(net: Any, x: Tensor) -> Tensor:
        for part in parts:
            x = net.get_submodule(part)(x)
        return x if end is None else end(net, x)

    return Stage(name, parts, run)


def _flat_pool(net: Any, x: Tensor) -> Tensor:
    return torch.flatten(net.avgpool(x), 1)


def _mean_pool(net: Any, x: Tensor) -> Tensor:
    return pool_map(x)


def _spans(*bounds: int) -> Callable[[Any], list[Stage]]:
    """Stages stem, stage1 ... of `features[a:b]` for consecutive bounds, the last one pooled by the mean."""

    def stages(net: Any) -> list[Stage]:
        parts = [[f"features.{i}" for i in range(a, b)] for a, b in pairwise(bounds)]
        names = ["stem", *(f"stage{i}" for i in range(1, len(parts)))]
        ends = [None] * (len(parts) - 1) + [_mean_pool]
        return [_chain(n, *p, end=e) for n, p, e in zip(names, parts, ends, strict=True)]

    return stages


def _resnet(net: Any) -> list[Stage]:
    layers = [_chain(f"layer{i}", f"layer{i}") for i in (1, 2, 3)]
    return [_chain("stem", "conv1", "bn1", "relu", "maxpool"), *layers, _chain("layer4", "layer4", end=_flat_pool)]


def _inception(net: Any) -> list[Stage]:
    def first(net: Any, x: Tensor) -> Tensor:  # the weights were trained on (x - 0.5) / 0.5, see transform_input
        return stem.run(net, net._transform_input(x))

    stem = _chain("stem", "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1")
    return [
        Stage("stem", stem.prefixes, first),
        _chain("conv", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
        _chain("mixed5", *(f"Mixed_5{c}" for c in "bcd")),
        _chain("mixed6", *(f"Mixed_6{c}" for c in "abcde")),
        _chain("mixed7", *(f"Mixed_7{c}" for c in "abc"), end=_flat_pool),
    ]


def _vgg_pooled(net: Any) -> list[Stage]:
    return _vgg_blocks(net, _mean_pool)


def _vgg_fc(net: Any) -> list[Stage]:
    fc6 = _chain("fc6", *(f"classifier.{i}" for i in (0, 1, 2)))
    fc7 = _chain("fc7", *(f"classifier.{i}" for i in (3, 4, 5)))
    return [*_vgg_blocks(net, _flat_pool), fc6, fc7]


def _vgg_blocks(net: Any, end: Callable[[Any, Tensor], Tensor]) -> list[Stage]:
    """Five blocks, each ending in its max pooling."""
    bounds = [0, *(i + 1 for i, m in enumerate(net.features) if isinstance(m, nn.MaxPool2d))]
    parts = [[f"features.{i}" for i in range(a, b)] for a, b in pairwise(bounds)]
    ends = [None] * (len(parts) - 1) + [end]
    return [_chain(f"block{i}", *p, end=e) for i, (p, e) in enumerate(zip(parts, ends, strict=True), 1)]


def _convnext(net: Any) -> list[Stage]:
    def end(net: Any, x: Tensor) -> Tensor:  # classifier[0] is a pretrained LayerNorm after the pooling
        return torch.flatten(net.classifier[0](net.avgpool(x)), 1)

    return _patch_stages(end, norm="classifier.0")


def _swin(net: Any) -> list[Stage]:
    def end(net: Any, x: Tensor) -> Tensor:
        return torch.flatten(net.avgpool(net.permute(net.norm(x))), 1)

    return _patch_stages(end, norm="norm")


def _patch_stages(end: Callable[[Any, Tensor], Tensor], norm: str) -> list[Stage]:
    """Patch embedding, then four stages; a layer that shrinks the map belongs to the stage after it."""
    last = _chain("stage4", "features.6", "features.7", end=end)
    return [
        _chain("stem", "features.0"),
        _chain("stage1", "features.1"),
        _chain("stage2", "features.2", "features.3"),
        _chain("stage3", "features.4", "features.5"),
        Stage(last.name, (*last.prefixes, norm), last.run),
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
    middle = [_chain(f"block{i}", *b) for i, b in enumerate(blocks[:-1], 1)]
    last = _chain("block4", *blocks[-1], end=end)
    return [stem, *middle, Stage("block4", (*last.prefixes, "encoder.ln"), last.run)]


def _pool_patches(x: Tensor) -> Tensor:
    return x[:, 1:].mean(1)  # below the last layers the class token has seen little of the image; in the stem, nothing


def _pool_channels_last(x: Tensor) -> Tensor:
    return x.mean((1, 2))


_VGG_FC = Family(_vgg_fc, "classifier.6")
FAMILIES: dict[str, Family] = {
    "vgg": Family(_vgg_pooled, "classifier.6", unused=("classifier",), width=512),
    "resnet": Family(_resnet, "fc"),
    # transform_input is a fixed rescaling of the input, on for every set of weights so that a run reloads alike
    "inception": Family(
        _inception, "fc", unused=("AuxLogits",), options=(("aux_logits", False), ("transform_input", True))
    ),
    "mobilenet_v2": Family(_spans(0, 2, 4, 7, 14, 19), "classifier.1"),
    "efficientnet_b": Family(_spans(0, 2, 3, 4, 6, 9), "classifier.1"),
    "convnext": Family(_convnext, "classifier.2"),
    "vit": Family(_vit, "heads.head", pool=_pool_patches),
    "swin_": Family(_swin, "head", pool=_pool_channels_last),
}


def family_of(name: str, features: str = "pooled") -> Family:
    """The family of a torchvision model name; `features` chooses VGG's pooled maps or its fully connected layers."""
    if features not in ("pooled", "fc"):
        raise UserError(f"features='{features}' is unknown: use 'pooled' or 'fc'")
    if features == "fc":
        if not name.startswith("vgg"):
            raise UserError(f"features=fc is for VGG, whose fully connected layers are pretrained; {name} has none")
        return _VGG_FC
    for prefix, family in FAMILIES.items():
        if name.startswith(prefix):
            return family
    raise UserError(f"torchvision's {name} has no stage table; families known: {', '.join(FAMILIES)}")
