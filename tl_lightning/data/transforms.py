"""From a decoded image to the pixels that a network sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from tl_lightning.inputs import ImageInput

Transform = Callable[[Image], Tensor]
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Augment:
    """How much a training image may be changed.

    `min_scale`: smallest share of the area that a random crop keeps; None for no random crop at all.
    `flip`: probability of a mirror image. `trivial`: one random operation of TrivialAugment (arXiv:2103.10158).
    `erasing`: probability of a blanked rectangle. `mixup`, `cutmix`: their alphas; a batch takes one of the two.
    """

    min_scale: float | None = 0.35
    flip: float = 0.5
    trivial: bool = False
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


def train_transform(input: ImageInput, augment: Augment) -> Transform:
    """PIL image to (3, size, size) uint8."""
    mode = InterpolationMode(input.interpolation)
    steps: list[Any] = []
    if augment.min_scale is None:
        steps += [v2.Resize(input.train_resize, mode, antialias=True), v2.CenterCrop(input.size)]
    else:
        steps += [v2.RandomResizedCrop(input.size, (augment.min_scale, 1.0), interpolation=mode, antialias=True)]
    if augment.flip:
        steps += [v2.RandomHorizontalFlip(augment.flip)]
    if augment.trivial:
        steps += [v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)]
    steps += [v2.PILToTensor()]
    if augment.erasing:
        steps += [v2.RandomErasing(augment.erasing)]
    return _composed(steps)


def eval_transform(input: ImageInput) -> Transform:
    """PIL image to (3, eval_size, eval_size) uint8: the geometry on which the weights were measured."""
    mode = InterpolationMode(input.interpolation)
    return _composed(
        [v2.Resize(input.eval_resize, mode, antialias=True), v2.CenterCrop(input.eval_size), v2.PILToTensor()]
    )


def mixing(augment: Augment, classes: int) -> Mix | None:
    """What mixes a normalised batch (images, labels (N,)) into (images, soft labels (N, C)); None for nothing."""
    ways = [v2.MixUp(alpha=augment.mixup, num_classes=classes)] if augment.mixup else []
    ways += [v2.CutMix(alpha=augment.cutmix, num_classes=classes)] if augment.cutmix else []

    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        way = ways[int(torch.randint(len(ways), ()))]
        mixed: tuple[Tensor, Tensor] = way(images, labels)
        return mixed

    return mix if ways else None


def _composed(steps: list[Any]) -> Transform:
    composed: Transform = v2.Compose(steps)
    return composed
