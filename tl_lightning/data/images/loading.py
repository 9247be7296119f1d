"""From files to batches of uint8: decoded, transformed, stacked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from tl_lightning import machine
from tl_lightning.data.file_memo import remembered
from tl_lightning.data.images import transforms
from tl_lightning.data.images.decode import load_rgb, size
from tl_lightning.data.images.decoded import Decoded
from tl_lightning.data.samples import Samples
from tl_lightning.data.sampling import Key, drawing
from tl_lightning.errors import UserError


class Images(Dataset[tuple[Tensor, Any, int]]):
    """Decoded, transformed images (3, H, W) uint8, with target and place; asked for by (index, seed of the transform).

    `decoded` keeps what does not change from epoch to epoch. `draft`: large JPEGs are decoded at a fraction of their
    size. `opened` (sample, pixels that will do) gives an image of a sample. Raises UserError for a file that can no
    longer be read.
    """

    def __init__(
        self,
        items: Sequence[tuple[str, Any]],
        transform: transforms.Transform,
        decoded: Decoded | None = None,
        draft: bool = True,
        opened: Callable[[str, int | None], Image.Image] = load_rgb,
    ) -> None:
        self.items, self.transform, self.decoded, self.opened = items, transform, decoded, opened
        self.longest = self.length = 0  # which sample is the longest, and its length: images are all alike
        self.at_least = transform.asks if draft else None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Key) -> tuple[Tensor, Any, int]:
        index, seed = key
        image = self.prepared(index)
        with drawing(seed):
            return self.transform.finish(image), self.items[index][1], index

    def prepared(self, index: int) -> Image.Image:
        """An image up to where the transform may draw."""
        if self.decoded and (pixels := self.decoded.get(index)) is not None:
            return Image.fromarray(pixels)
        image: Image.Image = self.transform.prepare(self._opened(self.items[index][0]))
        if self.decoded:
            self.decoded.put(index, np.asarray(image))
        return image

    def _opened(self, sample: str) -> Image.Image:
        try:
            return self.opened(sample, self.at_least)
        except UserError:
            raise
        except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
            raise UserError(
                f"{sample} can no longer be read ({type(error).__name__}: {' '.join(str(error).split())}): bring it "
                "back, or remove it and its line in splits.csv; then go on with resume=RUN"
            ) from error


def stack(images: Sequence[Tensor]) -> Tensor:
    """uint8 images (3, H, W) copied once, into one channels_last buffer (N, 3, H, W)."""
    first = images[0]
    batch = torch.empty((len(images), *first.shape[1:], first.shape[0]), dtype=first.dtype)
    for row, image in zip(batch, images, strict=True):
        row.copy_(image.permute(1, 2, 0))
    return batch.permute(0, 3, 1, 2)


def prepared_shapes(folder: Samples, split: str, transform: transforms.Transform) -> np.ndarray:
    """(N, 2) heights and widths of a split's images once they are prepared."""
    paths, last = [i.path for i in folder.used(split)], transform.prepare.transforms[-1]
    if not isinstance(last, transforms.Shrink):
        return np.array([last.size] * len(paths))  # a crop's
    sizes = remembered("sizes", folder.root, paths, lambda p: list(size(p)), "reading the sizes of {} images", _is_size)
    return np.array([last.size(*sizes[p])[::-1] for p in paths])


def _is_size(answer: Any) -> bool:
    return isinstance(answer, list) and len(answer) == 2 and all(type(side) is int and side > 0 for side in answer)


def enough_workers(images: Images) -> tuple[int, float]:
    """Loader processes to keep a network busy, and the seconds that loading an image takes here (of up to 8)."""
    some = np.linspace(0, len(images) - 1, min(8, len(images))).astype(int)
    began = time.perf_counter()
    loaded = 0
    while loaded < len(some) and time.perf_counter() - began < 0.5:
        images[int(some[loaded]), 0]
        loaded += 1
    per_image = (time.perf_counter() - began) / loaded
    # images/s that a small network may take: more than it will, for idle processes cost little
    demand = 3000 if torch.cuda.is_available() else 100 * machine.cores()
    busy = per_image * demand
    return (0 if busy < 0.1 else max(1, min(16, machine.cores() - 1, math.ceil(busy)))), per_image
