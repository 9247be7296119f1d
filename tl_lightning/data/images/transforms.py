"""From a decoded image to the pixels that a network sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from tl_lightning import checks
from tl_lightning.inputs import ImageInput

# Random crops out of a kept image come from a short side of so many times the crop's size.
MARGIN = 1.15
_EVERY = 1_000_000  # pixels of the short side: no file is decoded at a fraction of its size


@dataclass(frozen=True)
class ImageAugmentation:
    """How much a training image may be changed.

    `min_scale`: smallest share of the area that a random crop keeps; None for no random crop at all.
    `flip`: probability of a mirror image. `trivial`: one random operation of TrivialAugment (arXiv:2103.10158).
    `erasing`: probability of a blanked rectangle (arXiv:1708.04896). `mixup`, `cutmix`: their alphas; a batch takes
    one of the two.
    """

    min_scale: float | None = 0.35
    flip: float = 0.5
    trivial: bool = False
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        checks.number("augment.min_scale", self.min_scale, 0, 1, optional=True)
        for key in ("flip", "erasing"):
            checks.number(f"augment.{key}", getattr(self, key), 0, 1)
        for key in ("mixup", "cutmix"):
            checks.number(f"augment.{key}", getattr(self, key), 0)
        checks.boolean("augment.trivial", self.trivial)

    @property
    def draws_pixels(self) -> bool:
        """Whether an image gives more than itself and its mirror image."""
        return self.min_scale is not None or self.trivial

    @property
    def draws_batches(self) -> bool:
        """Whether something is done to whole batches of images."""
        return bool(self.erasing or self.mixup or self.cutmix)


class Transform:
    """PIL image to (3, H, W) uint8: `prepare`, the same every time, so that its result can be kept, then `finish`.

    `asks`: pixels of the short side that the file must give. `name` tells it from any other transform.
    """

    def __init__(self, prepare: list[Any], finish: list[Any], asks: int) -> None:
        self.prepare: Any = v2.Compose(prepare or [v2.Identity()])
        self.finish: Callable[[Image], Tensor] = v2.Compose([*finish, v2.PILToTensor()])
        self.asks = asks

    def __call__(self, image: Image) -> Tensor:
        """Both steps."""
        return self.finish(self.prepare(image))

    @property
    def name(self) -> str:
        """Every step with its values."""
        return f"{self.asks} {self.prepare} {self.finish}"


class Shrink:
    """Brings the short side down to `side` pixels; what is smaller stays."""

    def __init__(self, side: int, mode: InterpolationMode) -> None:
        self.side, self.resize = side, v2.Resize(side, mode, antialias=True)

    def __call__(self, image: Image) -> Image:
        """The smaller image."""
        return image if min(image.size) <= self.side else self.resize(image)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """What an image of this width and height becomes."""
        short, long = sorted((width, height))
        if short <= self.side:
            return width, height
        long = int(self.side * long / short)  # as torchvision's Resize rounds
        return (self.side, long) if width < height else (long, self.side)

    def __repr__(self) -> str:
        return f"Shrink({self.side}, {self.resize.interpolation})"


def train_transform(input: ImageInput, augment: ImageAugmentation, shrink: Shrink | None = None) -> Transform:
    """To (3, size, size), crops and mirror images drawn as `augment` says; random crops out of what `shrink` leaves."""
    mode = InterpolationMode(input.interpolation)
    random: list[Any] = [v2.RandomHorizontalFlip(augment.flip)] if augment.flip else []
    if augment.trivial:
        random += [v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)]
    if augment.min_scale is None:
        return Transform(_crop(input.train_resize, input.size, mode), random, input.train_resize)
    crop = v2.RandomResizedCrop(input.size, (augment.min_scale, 1.0), interpolation=mode, antialias=True)
    if shrink:
        return Transform([shrink], [crop, *random], shrink.side)
    # the smallest crop shall still hold as many pixels as it is resized to
    return Transform([], [crop, *random], math.ceil(input.size / math.sqrt(max(augment.min_scale, 0.01))))


def shrink(input: ImageInput) -> Shrink:
    """What is kept of a training image of which random crops are taken."""
    return Shrink(round(MARGIN * input.size), InterpolationMode(input.interpolation))


def eval_transform(input: ImageInput) -> Transform:
    """To (3, eval_size, eval_size): the geometry on which the weights were measured."""
    mode = InterpolationMode(input.interpolation)
    return Transform(_crop(input.eval_resize, input.eval_size, mode), [], input.eval_resize)


def whole() -> Transform:
    """To (3, H, W): every pixel of the file."""
    return Transform([], [], _EVERY)


def erase(images: Tensor, probability: float) -> Tensor:
    """A normalised batch (N, C, H, W) in which each image loses, with this probability, a rectangle of its own to 0.

    Area 2 to 33 % of the image, sides within 10 : 3, as in the paper (arXiv:1708.04896). One operation for the batch.
    """
    n, _, height, width = images.shape
    area, shape, top, left, chance = torch.rand(5, n, device=images.device)
    area, aspect = height * width * (0.02 + 0.31 * area), torch.exp(math.log(0.3) * (1 - 2 * shape))
    h, w = ((area * aspect).sqrt().round().clamp(1, height), (area / aspect).sqrt().round().clamp(1, width))
    y0, x0 = (top * (height - h + 1)).floor(), (left * (width - w + 1)).floor()
    ys, xs = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    rows = (ys >= y0[:, None]) & (ys < (y0 + h)[:, None])
    columns = (xs >= x0[:, None]) & (xs < (x0 + w)[:, None])
    gone = rows[:, :, None] & columns[:, None, :] & (chance < probability)[:, None, None]
    return images.masked_fill(gone[:, None], 0.0)


def _crop(resize: int, size: int, mode: InterpolationMode) -> list[Any]:
    return [v2.Resize(resize, mode, antialias=True), v2.CenterCrop(size)]
