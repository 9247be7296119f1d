"""Batches for the learner: uint8 from the workers, normalised in one step on the device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from tl_lightning.batch import Batch, first_tensor
from tl_lightning.data import splits
from tl_lightning.data.datamodule import LabelledData, Preview, Variation
from tl_lightning.data.file_memo import stamp
from tl_lightning.data.images import decoded, transforms
from tl_lightning.data.images import image_folder as folders
from tl_lightning.data.images import manifest as manifests
from tl_lightning.data.images.decode import DEFAULT, load_rgb
from tl_lightning.data.images.image_issues import file_issues
from tl_lightning.data.images.image_options import Decoding, image_options
from tl_lightning.data.images.loading import Images, enough_workers, prepared_shapes, stack
from tl_lightning.data.issues import Issue
from tl_lightning.data.loader_options import Loading, among
from tl_lightning.data.samples import Samples
from tl_lightning.data.sampling import EpochLoader
from tl_lightning.data.table import Format
from tl_lightning.inputs import ImageInput
from tl_lightning.tasks.inferred import infer
from tl_lightning.tasks.task import MakeTask

log = logging.getLogger(__name__)

_SHOWN = 16  # images in a preview
_FEW, _MUCH = 96, 3  # pixels that are few for a network; so many times as many are lost on it


class ImageDataModule(LabelledData):
    """The splits of an image folder, in the geometry of one backbone. `prefix` gets normalised images."""

    input: ImageInput
    samples: Any  # an ImageFolder, or what has no files
    pass_batch = ImageInput.at_once

    def __init__(
        self,
        samples: Samples,
        input: ImageInput,
        augment: transforms.ImageAugmentation,
        loading: Loading | None = None,
        decoding: Decoding | None = None,
    ) -> None:
        super().__init__(samples, loading or Loading())
        decoding = decoding or Decoding()
        self.input, self.augment, self.workers = input, augment, decoding.workers
        self.cache, self.draft = decoding.cache, decoding.draft
        how = "draft" if decoding.draft else "whole"
        self.reading = how if input.reading == DEFAULT else f"{how} {input.reading}"
        self.eval_transform = transforms.eval_transform(input)
        self.train_transform = transforms.train_transform(input, transforms.ImageAugmentation(None, 0.0))
        self.whole_transform = transforms.whole()
        self._slots: dict[tuple[str, str], decoded.Decoded | None] = {}
        self._first: Batch | None = None
        self._mix = self.task.mixer(augment.mixup, augment.cutmix)

    def issues(self) -> Iterator[Issue]:
        """What is wrong with the images, and with their files."""
        yield from super().issues()
        paths = [i.path for i in self.samples.items if not i.skipped]
        yield from file_issues(self.samples.look(paths, self.draft), self.input.size)

    def remark(self) -> str:
        """That the network sees far fewer pixels than the images have, where it was trained on so few."""
        side = self.samples.short_side() if isinstance(self.samples, folders.ImageFolder) else 0
        if self.input.size > _FEW or side < _MUCH * self.input.size:
            return ""
        return (
            f"the images are some {side} pixels wide or high, and the network sees {self.input.size}: what is small in "
            f"them may be lost; backbone.image_size={2 * self.input.size} shows it more, at four times the cost"
        )

    @property
    def variation(self) -> Variation:
        """How training images differ from epoch to epoch."""
        augment = self.augment
        drawn = transforms.train_transform(self.input, augment) if augment.draws_pixels else None
        return Variation(augment.flip, drawn, not augment.trivial, augment.draws_batches)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled (or balanced) batches of one size; a remainder too small for one waits for another epoch."""
        keeps = transforms.shrink(self.input) if self.cache != "off" else None
        transform = transforms.train_transform(self.input, self.augment, keeps)
        return self._loader(self.images("train", transform), **self.train_batches())

    def eval_dataloader(self, split: str) -> DataLoader[Batch]:
        """Every image of a split once."""
        return self._loader(self.images(split, self.eval_transform), batch_sampler=self.eval_batches(split))

    def images(self, split: str, transform: transforms.Transform, keep: bool = True) -> Images:
        """A split's images under a transform; if they are asked for often, decoded ones are kept as `cache` says."""
        slots = self._decoded_by(split, transform) if keep and self.cache != "off" else None
        return Images(self.samples.split(split), transform, slots, self.draft, self._open)

    def _open(self, path: str, at_least: int | None = None) -> Image.Image:
        """An image of a file, as the data's files are read."""
        return load_rgb(path, at_least, self.input.reading)

    def dataset(self, split: str, transform: transforms.Transform) -> Images:
        """A split's images for one pass, of which nothing is kept."""
        return self.images(split, transform, keep=False)

    def preview(self) -> Preview:
        """The first training images as they were augmented; none before the first batch."""
        if self._first is None:
            return Preview()
        pixels = self.input.restore(first_tensor(self._first.inputs).float())
        return Preview(pixels, self._labels(self._first.index.tolist()))

    def _labels(self, places: Sequence[int]) -> list[str]:
        """Of training images."""
        used = self.samples.used("train")
        return [used[i].label for i in places]

    def preview_of(self, views: Sequence[Callable[[Any, int], Any]], dataset: Images) -> Preview:
        """The views (a few, if there are many) of the first training images."""
        few = range(min(len(dataset), max(1, _SHOWN // len(views))))
        pixels = torch.stack([view(dataset.prepared(i), i) for i in few for view in views[:_SHOWN]])
        return Preview(pixels.float() / 255, self._labels([i for i in few for _ in views[:_SHOWN]]))

    def enough_workers(self, dataset: Images) -> int:
        """As many as the time that an image takes to load calls for."""
        return enough_workers(dataset)[0]

    def digests(self, split: str) -> list[str]:
        """Of the files of a split, in order; remembered until a file changes."""
        paths = [i.path for i in self.samples.used(split)]
        found = self.samples.look(paths, self.draft)
        return [found[p].digest for p in paths]

    def stack(self, samples: Sequence[Tensor]) -> Tensor:
        """Images (3, H, W) as (N, 3, H, W)."""
        return stack(samples)

    def to_memory_format(self, rows: Tensor) -> Tensor:
        """Maps (N, C, H, W) with their channels last in memory; vectors as they are."""
        return rows.contiguous(memory_format=torch.channels_last) if rows.ndim == 4 else rows

    def _decoded_by(self, split: str, transform: transforms.Transform) -> decoded.Decoded | None:
        """Where a split's images are kept; the loader of the last evaluation finds what those before it have filled."""
        name = f"{transform.prepare} {self.reading}"
        if (split, name) not in self._slots:
            stamps = [[str(Path(p).resolve()), *stamp(Path(p))] for p, _ in self.samples.split(split)]
            shapes = prepared_shapes(self.samples, split, transform)
            ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
            slots, where = decoded.keep(self.cache, name, stamps, shapes, ranks)
            # of evaluation images, which are fewer and looked at later, no second warning
            say = log.warning if slots is None and split == "train" else log.info
            say(f"decoded   {split} images {where}")
            self._slots[split, name] = slots
        return self._slots[split, name]

    def _loader(self, images: Images, **order: Any) -> DataLoader[Batch]:
        if self.workers is None:
            self.workers, per_image = enough_workers(images)
            processes = f"{self.workers or 'no'} loader process{'' if self.workers == 1 else 'es'}"
            log.info(f"loading   {per_image * 1e3:.2g} ms an image: {processes}")
        options = {**self.loader_options(), **order}
        held: Any = images  # of which collate makes batches
        return EpochLoader(
            held,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=self.collate,
            **options,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise; erase and mix while training; run the frozen prefix if there is one."""
        images, targets = self.input.normalise(first_tensor(batch.inputs)), batch.targets
        images = images.contiguous(memory_format=torch.channels_last)
        if self.trainer and self.trainer.training:
            images = transforms.erase(images, self.augment.erasing) if self.augment.erasing else images
            images, targets = self._mix(images, targets) if self._mix else (images, targets)
            if self._first is None:
                self._first = Batch(images[:_SHOWN], targets[:_SHOWN], batch.index[:_SHOWN])
        return super().on_after_batch_transfer(Batch(images, targets, batch.index), dataloader_idx)


def image_folder(input: ImageInput, task: MakeTask = infer, *, root: str, **options: Any) -> ImageDataModule:
    """A folder of images in batches, under `image_options`; of a table as `splits` the images that it names.

    Raises UserError for anything that cannot be trained on, TypeError for an unknown option.
    """
    told = image_options(input, **options)
    if told.division.splits and not splits.written_here(Path(told.division.splits)):
        table = str(Path(told.division.splits).absolute())
        found = manifest(input, task, file=table, root=root, **{**options, "splits": None})
        found.described_as = {"_target_": "tl_lightning.data.manifest", "file": table, "splits": None}
        return found
    samples = folders.read(root, task, told.division, told.checking)
    return ImageDataModule(samples, replace(input, reading=samples.reading), told.augment, told.loading, told.decoding)


def manifest(
    input: ImageInput, task: MakeTask = infer, *, file: Any, root: str | None = None, **options: Any
) -> ImageDataModule:
    """The images that a file (or a DataFrame) names, in batches: columns by ImageColumns, the rest by `image_options`.

    Paths are absolute, or relative to `root`; of None, to the file's folder. Raises UserError for anything that cannot
    be trained on, TypeError for an unknown option.
    """
    columns, written = among(options, manifests.ImageColumns, Format)
    known = {f.name for kind in (manifests.ImageColumns, Format) for f in fields(kind)}
    told = image_options(input, **{k: v for k, v in options.items() if k not in known})
    samples = manifests.read(file, root, task, columns, told.division, told.checking, written)
    return ImageDataModule(samples, replace(input, reading=samples.reading), told.augment, told.loading, told.decoding)
