"""What images may be told, wherever they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tl_lightning import checks
from tl_lightning.data.images import decoded, transforms
from tl_lightning.data.images.image_folder import Checking
from tl_lightning.data.loader_options import Loading, grouped
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput, Reading


@dataclass(frozen=True)
class Decoding:
    """`workers` None: as many processes as the time that an image takes to load calls for.

    `cache`: where decoded images are kept, "auto", "ram", "disk" or "off". `draft`: large JPEGs are decoded at a
    fraction of their size. `ground` (a colour) and `max_megapixels`: as in Reading.
    """

    workers: int | None = None
    cache: str = "auto"
    draft: bool = True
    ground: str = "white"
    max_megapixels: float = 178.0

    def __post_init__(self) -> None:
        if str(self.cache) == "False":  # which is how YAML reads "off"
            object.__setattr__(self, "cache", "off")
        checks.whole("data.workers", self.workers, 0, optional=True)
        checks.one_of("data.cache", self.cache, decoded.KINDS)
        checks.boolean("data.draft", self.draft)


@dataclass(frozen=True)
class ImageOptions:
    """Options in the groups that they belong to."""

    augment: transforms.ImageAugmentation
    checking: Checking
    division: SplitOptions
    loading: Loading
    decoding: Decoding


def image_options(
    input: Any,
    augment: transforms.ImageAugmentation | None = None,
    flip: bool = True,
    on_error: str = "skip",
    **options: Any,
) -> ImageOptions:
    """Options in the groups that they belong to: SplitOptions, Loading, Decoding.

    `flip` False: a mirror image would be another class, so `augment` makes none. Raises UserError for a backbone that
    takes no images, TypeError for an unknown option.
    """
    if not isinstance(input, ImageInput):
        raise UserError("the backbone reads texts, and the data are images: take data=text_csv, or an image backbone")
    checks.boolean("data.flip", flip)
    augment = augment or transforms.ImageAugmentation()
    division, loading, decoding = grouped(options, SplitOptions, Loading, Decoding)
    checking = Checking(
        "raise" if division.doctor == "strict" else on_error,
        Reading(ground=decoding.ground, max_megapixels=decoding.max_megapixels),
        decoding.draft,
    )
    return ImageOptions(augment if flip else replace(augment, flip=0.0), checking, division, loading, decoding)
