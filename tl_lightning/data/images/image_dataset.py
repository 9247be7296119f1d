"""A torch Dataset of (image, label) in batches for the learner."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from tl_lightning.data.images.decode import to_rgb
from tl_lightning.data.images.image_datamodule import ImageDataModule
from tl_lightning.data.images.image_options import image_options
from tl_lightning.data.images.loading import Images
from tl_lightning.data.images.transforms import Transform
from tl_lightning.data.issues import Issue, issues_of
from tl_lightning.data.samples import Item, Samples
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput
from tl_lightning.tasks.inferred import infer
from tl_lightning.tasks.task import Labels, MakeTask


@dataclass(frozen=True)
class DatasetImages(Samples):
    """The items of a Dataset, known by their numbers."""

    noun = "images"

    def sample(self, item: Item) -> str:
        """Its number."""
        return item.path


class ImageDatasetModule(ImageDataModule):
    """The splits of a Dataset of (image, label), in the geometry of one backbone. Nothing decoded is kept."""

    dataset_of_images: Any

    def images(self, split: str, transform: Transform, keep: bool = True) -> Images:
        """A split's images under a transform."""
        return Images(self.samples.split(split), transform, None, False, partial(_opened, self.dataset_of_images))

    def issues(self) -> Iterator[Issue]:
        """What is wrong with the images as far as their labels tell: there are no files."""
        yield from issues_of(self.samples)

    def digests(self, split: str) -> list[str]:
        """Of the pixels of a split, in order."""
        found = []
        for item in self.samples.used(split):
            pixels = np.asarray(_opened(self.dataset_of_images, item.path))
            found.append(hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).hexdigest())
        return found


def read(dataset: Any, task: MakeTask = infer, division: SplitOptions | None = None) -> DatasetImages:
    """The labels of a Dataset, and its items in splits.

    Labels are texts or whole numbers, which `dataset.classes` may name; `dataset.targets` gives them without opening an
    image, as torchvision's datasets do. Raises UserError for items that are not (image, label).
    """
    division = division or SplitOptions()
    if division.group:
        raise UserError(
            f"data.group={division.group}: a Dataset has neither paths nor columns: give a folder or a table"
        )
    _refuse_item(dataset)
    cells = [_label(label, getattr(dataset, "classes", None)) for label in _targets(dataset)]
    made, labels = task(Labels(tuple(cells), "the dataset's labels", names=True))
    items = [Item(f"{i:07d}", label, "train") for i, label in enumerate(labels)]
    items = division.limited(division.drawn(items, made), made)
    found = DatasetImages(Path(type(dataset).__name__), tuple(items), made.naming([i.label for i in items]))
    found.refuse_unusable("the dataset")
    return found


def as_image(value: Any) -> Image.Image:
    """A PIL image, an array (H, W), (H, W, 3) of 0..255, or a tensor (3, H, W), (1, H, W) of 0..255 or 0..1, as RGB.

    Raises UserError for anything else.
    """
    if isinstance(value, Image.Image):
        return to_rgb(value)
    pixels = value.permute(1, 2, 0).numpy() if isinstance(value, Tensor) and value.ndim == 3 else np.asarray(value)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 3)
    if fits and pixels.dtype == np.uint8:
        return to_rgb(Image.fromarray(pixels))
    if fits and pixels.dtype.kind == "f" and 0 <= pixels.min() and pixels.max() <= 1:
        return to_rgb(Image.fromarray(np.round(pixels * 255).astype(np.uint8)))
    raise UserError(
        f"{type(value).__name__} {pixels.dtype} {pixels.shape} is no image: give a PIL image, uint8 (H, W, 3), or a "
        "tensor (3, H, W) of 0..1 without normalisation, which the backbone's weights bring along"
    )


def _opened(dataset: Any, number: str, at_least: int | None = None) -> Image.Image:
    return as_image(dataset[int(number)][0])


def _refuse_item(dataset: Any) -> None:
    if len(dataset) == 0:
        raise UserError("the dataset is empty")
    item = dataset[0]
    if not isinstance(item, Sequence) or len(item) != 2:
        raise UserError(f"the dataset's items must be (image, label): its first is {_short(item)}")
    as_image(item[0])


def _targets(dataset: Any) -> list[Any]:
    targets = getattr(dataset, "targets", None)
    if targets is not None and len(targets) == len(dataset):
        return list(targets)
    return [dataset[i][1] for i in range(len(dataset))]


def _label(label: Any, classes: Sequence[str] | None) -> str:
    if isinstance(label, str):
        return label
    if isinstance(label, (int, np.integer)) or (isinstance(label, Tensor) and label.ndim == 0):
        number = int(label)
        return classes[number] if classes is not None and 0 <= number < len(classes) else str(number)
    raise UserError(f"the dataset's labels must be texts or whole numbers, not {_short(label)}")


def _short(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:60]!r}"


def image_dataset(input: ImageInput, task: MakeTask = infer, *, dataset: Any, **options: Any) -> ImageDatasetModule:
    """A Dataset of (image, label) in batches, under `image_options`; images come from the Dataset, whatever it does.

    Raises UserError for anything that cannot be trained on, TypeError for an unknown option.
    """
    told = image_options(input, **options)
    samples = read(dataset, task, told.division)
    module = ImageDatasetModule(samples, input, told.augment, told.loading, replace(told.decoding, cache="off"))
    module.dataset_of_images = dataset
    return module
