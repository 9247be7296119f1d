"""Ways to cut a network into stages that more than one family shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tl_lightning.backbones.backbone import Stage

End = Callable[[Any, Tensor], Tensor]  # (net, output of the last module) to what the stage gives


def chain(name: str, *parts: str, end: End | None = None, also: Sequence[str] = ()) -> Stage:
    """A stage that calls the named modules one after another, then `end`. `also`: parts that `end` or readout use."""

    def run(net: Any, x: Tensor) -> Tensor:
        for part in parts:
            x = net.get_submodule(part)(x)
        return x if end is None else end(net, x)

    return Stage(name, (*parts, *also), run)


def flat_pool(net: Any, x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C) by the network's own pooling."""
    return torch.flatten(net.avgpool(x), 1)


def through(*parts: str) -> End:
    """A readout by modules one after another, such as the pretrained layers in front of a classifier."""

    def readout(net: Any, x: Tensor) -> Tensor:
        for part in parts:
            x = net.get_submodule(part)(x)
        return x

    return readout


def by_stride(container: str, also: Sequence[str] = ()) -> Callable[[Any], list[Stage]]:
    """Stages stem, stage1 ... of a list of blocks: each begins at a block that halves the map."""

    def stages(net: Any) -> list[Stage]:
        blocks = list(net.get_submodule(container))
        bounds = [i for i, block in enumerate(blocks) if i == 0 or _halves(block)] + [len(blocks)]
        parts = [[f"{container}.{i}" for i in range(a, b)] for a, b in pairwise(bounds)]
        named = [("stem" if i == 0 else f"stage{i}", p) for i, p in enumerate(parts)]
        *below, (name, top) = named
        return [*(chain(n, *p) for n, p in below), chain(name, *top, also=also)]

    return stages


def _halves(block: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d) and m.stride == (2, 2) for m in block.modules())


def by_pooling(net: Any) -> list[Stage]:
    """Stages block1, block2 ... of `features`, each ending in its max pooling."""
    bounds = [0, *(i + 1 for i, m in enumerate(net.features) if isinstance(m, nn.MaxPool2d)), len(net.features)]
    parts = [[f"features.{i}" for i in range(a, b)] for a, b in pairwise(bounds) if b > a]
    return [chain(f"block{i}", *part) for i, part in enumerate(parts, 1)]


def by_patches(norm: str, end: End | None = None) -> list[Stage]:
    """Patch embedding, then four stages of `features`; a layer that shrinks the map belongs to the stage after it."""
    return [
        chain("stem", "features.0"),
        chain("stage1", "features.1"),
        chain("stage2", "features.2", "features.3"),
        chain("stage3", "features.4", "features.5"),
        chain("stage4", "features.6", "features.7", end=end, also=(norm,)),
    ]
