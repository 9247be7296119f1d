"""Batches for the learner: uint8 from the workers, normalised in one step on the device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from tl_lightning.data import decoded, image_folder, transforms
from tl_lightning.data.image_folder import ImageFolder
from tl_lightning.data.known import stamp
from tl_lightning.data.loading import Images, collate, enough_workers, prepared_shapes
from tl_lightning.data.sampling import EpochSampler, EvalBatches, balancing_weights
from tl_lightning.errors import UserError, nearest
from tl_lightning.inputs import ImageInput

log = logging.getLogger(__name__)


class ImageDataModule(L.LightningDataModule):
    """The splits of an image folder, in the geometry of one backbone.

    `sampler`: "none" or "balanced". `workers` None: as many as the time that an image takes to load calls for. `seed`
    draws order and augmentation. `cache`: where decoded images are kept, "auto", "ram", "disk" or "off". `prefix`, if
    set, runs on every normalised batch: the frozen part of a network.
    """

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
        super().__init__()
        train = sum(folder.counts("train"))
        if not 1 <= batch_size <= train:
            raise UserError(f"data.batch_size={batch_size}: there are {train} training images, take at most that many")
        if sampler not in ("none", "balanced"):
            raise UserError(f"data.sampler={sampler} is unknown: use none or balanced")
        if sampler == "balanced" and class_weights == "auto":
            raise UserError(
                "data.sampler=balanced and data.class_weights=auto correct the same twice: take one of them"
            )
        cache = "off" if cache is False else str(cache)  # False is how YAML reads the word
        if cache not in decoded.KINDS:
            raise UserError(f"data.cache={cache} is unknown: use {', '.join(decoded.KINDS)}")
        self.folder, self.input, self.augment = folder, input, augment
        self.batch_size, self.sampler, self.seed, self.workers = batch_size, sampler, seed, workers
        self.cache, self.draft = cache, draft
        self._slots: dict[tuple[str, str], decoded.Decoded | None] = {}
        self.mix = transforms.mixing(augment, len(folder.classes))
        self.class_weights = loss_weights(class_weights, folder)
        self.prefix: Callable[[Tensor], Tensor] | None = None
        self.pictures: Tensor | None = None  # the first training images, as the network sees them

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their indices."""
        return self.folder.classes

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return any(self.folder.counts("test"))

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled (or balanced) batches of one size; a remainder too small for one waits for another epoch."""
        order = self.order()
        keeps = transforms.shrink(self.input) if self.cache != "off" else None
        transform = transforms.train_transform(self.input, self.augment, keeps)
        images = self.images("train", transform)
        return self._loader(images, sampler=order, batch_size=self.batch_size, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation image once."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test image once."""
        return self._eval_loader("test")

    def order(self) -> EpochSampler:
        """In which training images are drawn. UserError if a process has fewer of them than a batch holds."""
        labels = [label for _, label in self.folder.split("train")]
        order = EpochSampler(len(labels), self.seed, balancing_weights(labels) if self.sampler == "balanced" else None)
        if len(order) < self.batch_size:
            raise UserError(
                f"data.batch_size={self.batch_size}: each process has {len(order)} training images, take at most that"
            )
        return order

    def batches(self, split: str) -> EvalBatches:
        """In which a split is evaluated: twice as many images at once as in training, for nothing is kept of them."""
        return EvalBatches(len(self.folder.split(split)), 2 * self.batch_size)

    def _eval_loader(self, split: str) -> DataLoader[Any]:
        images = self.images(split, transforms.eval_transform(self.input))
        return self._loader(images, batch_sampler=self.batches(split))

    def images(self, split: str, transform: transforms.Transform, keep: bool = True) -> Images:
        """A split's images under a transform; if they are asked for often, decoded ones are kept as `cache` says."""
        slots = self._decoded_by(split, transform) if keep and self.cache != "off" else None
        return Images(self.folder.split(split), transform, slots, self.draft)

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

    def emphasis(self) -> Tensor:
        """What an image of each class (C,) weighs in training, by loss weights and by sampling; mean 1 over images."""
        counts = torch.tensor(self.folder.counts("train"), dtype=torch.float32)
        return self.prior() * counts.sum() / counts

    def prior(self) -> Tensor:
        """Class probabilities (C,) as the training loss sees them."""
        counts = torch.tensor(self.folder.counts("train"), dtype=torch.float32)
        seen = torch.ones_like(counts) if self.sampler == "balanced" else counts
        seen = seen if self.class_weights is None else seen * self.class_weights
        return seen / seen.sum()


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


def loss_weights(choice: str | Mapping[Any, float] | None, folder: ImageFolder) -> Tensor | None:
    """Weights (C,) of mean 1 over the training images: "none" (None), "auto" (inverse frequency), or by class name."""
    counts = torch.tensor(folder.counts("train"), dtype=torch.float32)
    if choice in ("none", None):
        return None
    if choice == "auto":
        weights = 1 / counts
    elif isinstance(choice, str):
        raise UserError(f"data.class_weights={choice} is unknown: use none, auto or {{class: weight}}")
    else:
        named = {str(name): float(weight) for name, weight in (choice or {}).items()}  # YAML reads 0 as a number
        if unknown := [name for name in named if name not in folder.classes]:
            raise UserError(f"data.class_weights names the class '{unknown[0]}': {nearest(unknown[0], folder.classes)}")
        weights = torch.tensor([named.get(c, 1.0) for c in folder.classes])
        if weights.min() <= 0:
            raise UserError("data.class_weights must be positive")
    return weights * counts.sum() / (weights * counts).sum()
