"""Batches for the learner: uint8 from the workers, normalised in one step on the device."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from tl_lightning.data import decoded, image_folder, transforms
from tl_lightning.data.image_folder import ImageFolder
from tl_lightning.data.known import known, stamp
from tl_lightning.data.labelled import LabelledData
from tl_lightning.data.loading import Images, collate, enough_workers, prepared_shapes, stack
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput

log = logging.getLogger(__name__)


class ImageDataModule(LabelledData):
    """The splits of an image folder, in the geometry of one backbone.

    `workers` None: as many as the time that an image takes to load calls for. `seed` draws augmentation, too. `cache`:
    where decoded images are kept, "auto", "ram", "disk" or "off". `prefix` gets normalised images. For the rest see
    LabelledData.
    """

    sentences = ()
    pass_batch = 8  # images at once on a CPU, where nothing is trained: larger ones take more memory and no less time
    stack = staticmethod(stack)

    def __init__(
        self,
        folder: ImageFolder,
        input: ImageInput,
        augment: transforms.Augment,
        *,
        batch_size: int = 32,
        workers: int | None = None,
        sampler: str = "none",
        class_weights: str | Mapping[Any, float] | None = "none",
        seed: int = 0,
        cache: str | bool = "auto",
        draft: bool = True,
    ) -> None:
        super().__init__(folder, batch_size, sampler, class_weights, seed)
        cache = "off" if cache is False else str(cache)  # False is how YAML reads the word
        if cache not in decoded.KINDS:
            raise UserError(f"data.cache={cache} is unknown: use {', '.join(decoded.KINDS)}")
        self.input, self.augment, self.workers, self.cache, self.draft = input, augment, workers, cache, draft
        self.still = transforms.eval_transform(input)
        self.still_train = transforms.train_transform(input, transforms.Augment(None, 0.0))
        self._slots: dict[tuple[str, str], decoded.Decoded | None] = {}
        self.mix = transforms.mixing(augment, len(folder.classes))

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled (or balanced) batches of one size; a remainder too small for one waits for another epoch."""
        keeps = transforms.shrink(self.input) if self.cache != "off" else None
        transform = transforms.train_transform(self.input, self.augment, keeps)
        images = self.images("train", transform)
        return self._loader(images, **self.train_batches())

    def eval_loader(self, split: str) -> DataLoader[Any]:
        """Every image of a split once."""
        images = self.images(split, self.still)
        return self._loader(images, batch_sampler=self.batches(split))

    def images(self, split: str, transform: transforms.Transform, keep: bool = True) -> Images:
        """A split's images under a transform; if they are asked for often, decoded ones are kept as `cache` says."""
        slots = self._decoded_by(split, transform) if keep and self.cache != "off" else None
        return Images(self.folder.split(split), transform, slots, self.draft)

    def looks(self, split: str, transform: transforms.Transform) -> Images:
        """A split's images for one pass, of which nothing is kept."""
        return self.images(split, transform, keep=False)

    def pass_order(self, split: str) -> np.ndarray:
        """In which a split is looked at once."""
        return np.arange(len(self.folder.split(split)))

    def digests(self, split: str) -> list[str]:
        """Of the files of a split, in order; remembered until a file changes."""
        paths, doing = self.folder.paths(split), "reading {} images to recognise them by their content"
        found = known("digests", self.folder.root, paths, _digest, doing)
        return [found[p] for p in paths]

    def placed(self, rows: Tensor) -> Tensor:
        """Activations as the network likes them in memory."""
        return rows.contiguous(memory_format=torch.channels_last) if rows.ndim == 4 else rows

    def _decoded_by(self, split: str, transform: transforms.Transform) -> decoded.Decoded | None:
        """Where a split's images are kept; the loader of the last evaluation finds what those before it have filled."""
        name = f"{transform.prepare} draft={self.draft}"
        if (split, name) not in self._slots:
            stamps = [[str(Path(p).resolve()), *stamp(Path(p))] for p, _ in self.folder.split(split)]
            shapes = prepared_shapes(self.folder, split, transform)
            ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
            slots, where = decoded.keep(self.cache, name, stamps, shapes, ranks)
            # of evaluation images, which are fewer and looked at later, no second warning
            say = log.warning if slots is None and split == "train" else log.info
            say(f"decoded   {split} images {where}")
            self._slots[split, name] = slots
        return self._slots[split, name]

    def _loader(self, images: Images, **order: Any) -> DataLoader[Any]:
        if self.workers is None:
            self.workers, per_image = enough_workers(images)
            processes = f"{self.workers or 'no'} loader process{'' if self.workers == 1 else 'es'}"
            log.info(f"loading   {per_image * 1e3:.2g} ms an image: {processes}")
        return DataLoader(
            images,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else a new iterator draws from the state that dropout draws from
            collate_fn=collate,
            **order,
        )

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Normalise; erase and mix while training; run the frozen prefix if there is one."""
        images, labels = batch
        images = self.input.normalise(images).contiguous(memory_format=torch.channels_last)
        if self.trainer and self.trainer.training:
            images = transforms.erase(images, self.augment.erasing) if self.augment.erasing else images
            images, labels = self.mix(images, labels) if self.mix else (images, labels)
            self.pictures = images[:16] if self.pictures is None else self.pictures
        return (self.prefix(images) if self.prefix else images), labels


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def from_folder(
    input: ImageInput,
    augment: transforms.Augment,
    *,
    root: str,
    val_fraction: float = 0.2,
    test_fraction: float = 0.0,
    max_per_class: int | None = None,
    splits: str | None = None,
    on_error: str = "skip",
    split_seed: int = 0,
    flip: bool = True,
    **loading: Any,
) -> ImageDataModule:
    """Read an image folder (`image_folder.read` says how) and load it as `loading` says (see ImageDataModule).

    `flip` False: a mirror image would be another class, so `augment` makes none.
    """
    if not isinstance(input, ImageInput):
        raise UserError("the backbone reads texts, and the data are images: take data=text_csv, or an image backbone")
    augment = augment if flip else replace(augment, flip=0.0)
    folder = image_folder.read(
        root,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        max_per_class=max_per_class,
        seed=split_seed,
        on_error=on_error,
        splits_file=splits,
    )
    return ImageDataModule(folder, input, augment, **loading)
