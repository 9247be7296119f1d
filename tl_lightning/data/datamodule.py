"""Batches for the learner: uint8 from the workers, normalised in one step on the device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tl_lightning.data import image_folder, transforms
from tl_lightning.data.image_folder import ImageFolder
from tl_lightning.data.images import load_rgb
from tl_lightning.data.sampling import EpochSampler, EvalBatches, Key, balancing_weights
from tl_lightning.errors import UserError, nearest
from tl_lightning.inputs import ImageInput


class Images(Dataset[tuple[Tensor, int]]):
    """Decoded, transformed images; asked for by (index, seed of the random transform)."""

    def __init__(self, items: list[tuple[str, int]], transform: transforms.Transform) -> None:
        self.items, self.transform = items, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        index, seed = key
        path, label = self.items[index]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not a GPU's, whose state is not forked
            return self.transform(load_rgb(path)), label


class ImageDataModule(L.LightningDataModule):
    """The splits of an image folder, in the geometry of one backbone.

    `sampler`: "none" or "balanced". `workers` None: from the cores that this process may use. `seed` draws order
    and augmentation.
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
        self.folder, self.input, self.batch_size, self.sampler, self.seed = folder, input, batch_size, sampler, seed
        self.workers = default_workers() if workers is None else workers
        self.transforms = {
            "train": transforms.train_transform(input, augment),
            "eval": transforms.eval_transform(input),
        }
        self.mix = transforms.mixing(augment, len(folder.classes))
        self.class_weights = loss_weights(class_weights, folder)

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
        items = self.folder.split("train")
        weights = balancing_weights([label for _, label in items]) if self.sampler == "balanced" else None
        order = EpochSampler(len(items), self.seed, weights)
        if len(order) < self.batch_size:
            raise UserError(
                f"data.batch_size={self.batch_size}: each process has {len(order)} training images, take at most that"
            )
        return self._loader(
            Images(items, self.transforms["train"]),
            sampler=order,
            batch_size=self.batch_size,
            drop_last=True,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation image once."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test image once."""
        return self._eval_loader("test")

    def _eval_loader(self, split: str) -> DataLoader[Any]:
        items = self.folder.split(split)
        batches = EvalBatches(len(items), self.batch_size)
        return self._loader(Images(items, self.transforms["eval"]), batch_sampler=batches)

    def _loader(self, images: Images, **order: Any) -> DataLoader[Any]:
        return DataLoader(
            images,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else a new iterator draws from the state that dropout draws from
            **order,
        )

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Normalise, and mix while training."""
        images, labels = batch
        images = self.input.normalise(images).contiguous(memory_format=torch.channels_last)
        if self.mix and self.trainer and self.trainer.training:
            return self.mix(images, labels)
        return images, labels

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


def default_workers() -> int:
    """Loader processes for the cores that this process may use: all but one, at least 1 and at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, cores - 1))
