"""Which looks at a training image the cache holds, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tl_lightning.data.sampling import drawing
from tl_lightning.errors import UserError
from tl_lightning.features.feature_source import FeatureSource
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

    def __call__(self, prepared: Any, index: int) -> Any:
        """What the transform makes of the prepared sample number `index`: an image (3, H, W), tokens (T, 2)."""
        with drawing(index * 1009 + self.draw):
            sample = self.transform.finish(prepared)
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


def choose(cache: str | int, plan: Plan, data: FeatureSource) -> Choice:
    """The views that `cache` (auto, off, or a number of random views) means for this plan and variation.

    "auto" caches what is the same in every epoch: images without random crops, and their mirror images. Where the
    whole backbone is frozen it also takes these in place of light random crops, of which a head alone makes
    little. Raises UserError for a number of views of what is only done to whole batches.
    """
    frozen, one = plan.boundary == len(plan.stages), data.samples.noun.removesuffix("s")
    variation = data.variation
    plain = View(data.eval_transform if frozen else data.train_transform)
    if cache == "off":
        return Choice((), "as was asked for")
    if plan.boundary == 0:
        return Choice((), "every stage learns")
    if not plan.phases:
        return Choice((plain,), f"the head is solved on one view of each {one}")
    if variation.batches:
        if cache != "auto":
            raise UserError(
                f"cache={cache}: erasing, mixup and CutMix need images, of which the cache keeps none: set them to 0 "
                "(augment=standard has none of them), or cache=off"
            )
        return Choice((), "erasing, mixup or CutMix need images")
    if isinstance(cache, int) and variation.drawn:
        views = tuple(View(variation.drawn, draw=k) for k in range(cache))
        return Choice(views, f"{cache} random views of each {one}")
    if variation.drawn and not (frozen and variation.light):
        return Choice((), "every epoch draws new pixels; cache=4 would keep 4 random views of each image")
    instead = "in place of random crops, " if variation.drawn else ""
    if not variation.mirrored:
        return Choice((plain,), f"{instead}one view of each {one}")
    both = (plain, replace(plain, mirrored=True))
    return Choice(both, f"{instead}each {one} and its mirror image", variation.mirrored)
