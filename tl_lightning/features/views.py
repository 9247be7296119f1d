"""Which looks at a training image the cache holds, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tl_lightning.data.labelled import LabelledData
from tl_lightning.data.loading import drawing
from tl_lightning.data.transforms import train_transform
from tl_lightning.errors import UserError
from tl_lightning.strategies.plan import Plan


@dataclass(frozen=True)
class View:
    """A transform that gives a sample the same form every time: of an image its mirror image, or the `draw`-th draw."""

    transform: Any
    mirrored: bool = False
    draw: int = 0

    @property
    def name(self) -> str:
        """Tells it from any other view."""
        return f"{self.transform.name} mirrored={self.mirrored} draw={self.draw}"

    def __call__(self, prepared: Any, index: int) -> Tensor:
        """(3, H, W) uint8 of image number `index`, or (T, 3) tokens of a text, which the transform has prepared."""
        with drawing(index * 1009 + self.draw):
            sample: Tensor = self.transform.finish(prepared)
        return sample.flip(-1) if self.mirrored else sample


@dataclass(frozen=True)
class Choice:
    """The views to cache of a training image, none where nothing is cached, and the reason for people.

    `chance` of the second of two views; None: all are drawn alike.
    """

    views: tuple[View, ...]
    reason: str
    chance: float | None = None

    def pick(self, seed: int) -> int:
        """The view that an image shows in an epoch, from the seed (below 2**31) that its transform would have had."""
        share = seed / 2**31
        return int(share < self.chance) if self.chance is not None else int(share * len(self.views))


def choose(cache: str | int, plan: Plan, data: LabelledData) -> Choice:
    """The views that `cache` (auto, off, or a number of random views) means for this plan and augmentation.

    "auto" caches what is the same in every epoch: images without random crops, and their mirror images. Where the
    whole backbone is frozen it also takes these in place of light random crops, of which a head alone makes
    little. Raises UserError for a number of views of what is only done to whole batches.
    """
    frozen, augment, one = plan.boundary == len(plan.stages), data.augment, data.folder.noun.removesuffix("s")
    plain = View(data.still if frozen else data.still_train)
    if cache == "off":
        return Choice((), "as was asked for")
    if plan.boundary == 0:
        return Choice((), "every stage learns")
    if not plan.phases:
        return Choice((plain,), f"the head is solved on one view of each {one}")
    if augment.draws_batches:
        if cache != "auto":
            raise UserError(
                f"cache={cache}: erasing, mixup and CutMix need images, of which the cache keeps none: set them to 0 "
                "(augment=standard has none of them), or cache=off"
            )
        return Choice((), "erasing, mixup or CutMix need images")
    if isinstance(cache, int) and augment.draws_pixels:
        draws = train_transform(data.input, augment)
        return Choice(tuple(View(draws, draw=k) for k in range(cache)), f"{cache} random views of each image")
    if augment.draws_pixels and (not frozen or augment.trivial):
        return Choice((), "every epoch draws new pixels; cache=4 would keep 4 random views of each image")
    instead = "in place of random crops, " if augment.draws_pixels else ""
    if not augment.flip:
        return Choice((plain,), f"{instead}one view of each {one}")
    views = (plain, replace(plain, mirrored=True))
    return Choice(views, f"{instead}each image and its mirror image", augment.flip)
