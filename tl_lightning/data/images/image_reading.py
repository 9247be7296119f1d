"""Images to predict for, as they come: files, folders, lists of them, arrays, pictures in memory."""

from __future__ import annotations

import glob
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tl_lightning import machine
from tl_lightning.data.images import layout, manifest
from tl_lightning.data.images.decode import EXTENSIONS, load_rgb, to_rgb
from tl_lightning.data.images.explaining import explain
from tl_lightning.data.images.foreign import begins_like_an_image, what_begins, what_else
from tl_lightning.data.images.image_folder import ImageFolder
from tl_lightning.data.images.loading import stack
from tl_lightning.data.images.transforms import eval_transform
from tl_lightning.data.incoming import Incoming
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput
from tl_lightning.tasks.task import Labels, MakeTask, Task

__all__ = ["batches", "explain", "joined", "labelled", "sources"]

_MANY = 64  # files, from which on processes of their own decode them
Picture = str | bytes | Image.Image  # a file's path, its contents, or what is in memory


def sources(source: Any, column: str | None = None) -> list[tuple[str, Picture]]:
    """(name, picture) of everything in `source`; nothing is read yet.

    `source`: a file, a folder (all images below it), a pattern like "new/*.jpg", a .txt of paths, "-" for paths on
    standard input, the bytes of a file, an array (H, W, 3) or (N, H, W, 3) of 0..255, a PIL image, or a sequence of
    them. Raises UserError for what is none of them, is not there, or holds no images.
    """
    if isinstance(source, (str, Path)):
        return [(path, path) for path in _paths(str(source))]
    if isinstance(source, bytes):
        return [("image", source)]
    if isinstance(source, Image.Image):
        return [("image", to_rgb(source))]
    if isinstance(source, np.ndarray):
        return _array(source)
    if isinstance(source, Sequence) and source:
        found: list[tuple[str, Picture]] = []
        for i, part in enumerate(source):
            if isinstance(part, (str, Path)):
                path = Path(part).expanduser()  # a file that is not there has a row that says so
                found += sources(path) if path.is_dir() else [(str(part), str(path))]
            else:
                found += [(f"{name} {i}", picture) for name, picture in sources(part)]
        return found
    raise UserError(
        f"{type(source).__name__} is no image: give a file, a folder, an array (H, W, 3) of 0..255, a PIL image, "
        "or a list of them"
    )


def batches(pictures: Sequence[Picture], input: ImageInput, size: int) -> Iterator[Incoming]:
    """Images (N, 3, H, W) of 0..255 in the geometry of evaluation, in order, up to `size` at once."""
    workers = max(1, machine.cores() - 1) if len(pictures) >= _MANY and isinstance(pictures[0], str) else 0
    loader: DataLoader[Incoming] = DataLoader(
        _Pictures(pictures, input),  # type: ignore[arg-type]  # of which collate makes batches
        batch_size=size, num_workers=workers, collate_fn=_collate,
    )  # fmt: skip
    yield from loader


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Several batches (N, 3, H, W) as one."""
    return torch.cat(list(parts))


def labelled(where: Path, make: MakeTask, task: Task, options: Mapping[str, Any]) -> ImageFolder:
    """All images of a folder of class folders, or of a table, with their labels in one split ("test").

    `options`: of training, which name the columns of a table. Raises UserError where there are none.
    """
    if where.is_file():
        return manifest.labelled(where, make, task, options)
    if not where.is_dir():
        raise UserError(f"{where} does not exist or is no folder: it must hold one folder of images per class")
    laid = layout.find(where)
    _, labels = make(Labels(tuple(i.label for i in laid.items), str(where), names=True))
    items = [replace(item, label=label, split="test") for item, label in zip(laid.items, labels, strict=True)]
    return ImageFolder(laid.root, tuple(items), task)


class _Pictures(Dataset[tuple[int, Tensor | str]]):
    """(place, image (3, H, W)), or why there is none."""

    def __init__(self, pictures: Sequence[Picture], input: ImageInput) -> None:
        self.pictures, self.reading, self.transform = pictures, input.reading, eval_transform(input)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> tuple[int, Tensor | str]:
        picture = self.pictures[place]
        try:
            return place, self.transform(self._opened(picture))
        except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
            return place, _why_unread(picture, error)

    def _opened(self, picture: Picture) -> Image.Image:
        if isinstance(picture, Image.Image):
            return picture
        if isinstance(picture, bytes):
            if what := what_begins(picture):
                raise UserError(f"the image {what}")
            return load_rgb(io.BytesIO(picture), self.transform.asks, self.reading)
        path = Path(picture)
        if not path.exists():
            raise UserError(f"{path} does not exist")
        if what := what_else(path):
            raise UserError(f"{path} {what}")
        return load_rgb(path, self.transform.asks, self.reading)


def _why_unread(picture: Picture, error: Exception) -> str:
    """A line, which names a file but no object in memory."""
    if isinstance(error, UserError):
        said = str(error)
    elif isinstance(picture, str):
        said = f"{picture} cannot be read: {error}"
    elif isinstance(error, UnidentifiedImageError):
        said = "the image cannot be read: its format is none that is known"
    else:
        said = f"the image cannot be read: {error}"
    return " ".join(said.split())


def _collate(samples: Sequence[tuple[int, Tensor | str]]) -> Incoming:
    read = [(place, image) for place, image in samples if isinstance(image, Tensor)]
    errors = {place: said for place, said in samples if isinstance(said, str)}
    return Incoming([place for place, _ in read], stack([image for _, image in read]) if read else None, errors)


def _paths(said: str) -> list[str]:
    if said == "-":
        return _listed(sys.stdin.read().splitlines(), Path(), "standard input")
    path = Path(said).expanduser()
    if path.is_dir():
        found = sorted(p for p in _files_below(path) if p.is_file() and _is_image(p))
        if not found:
            raise UserError(f"{path} holds no images ({', '.join(sorted(EXTENSIONS))})")
        return [str(p) for p in found]
    if path.is_file() and path.suffix.lower() == ".txt":
        return _listed(path.read_text("utf-8", "surrogateescape").splitlines(), path.parent, said)
    if not path.exists() and glob.has_magic(said):
        if not (matched := sorted(glob.glob(str(path), recursive=True))):
            raise UserError(f"source={said} matches no files")
        return matched
    if not path.is_file():
        raise UserError(f"{path} does not exist or is no regular file: give an image, or a folder of images")
    return [str(path)]


def _files_below(folder: Path) -> Iterator[Path]:
    """Whatever is not hidden, also in folders that are linked, each of them once."""
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            yield from (Path(parent, name) for name in names if not name.startswith("."))
        seen.add(real)


def _listed(lines: Sequence[str], folder: Path, where: str) -> list[str]:
    """Paths of a list, relative to the folder that it lies in."""
    if not (named := [line.strip() for line in lines if line.strip()]):
        raise UserError(f"{where} names no files: it must hold a path in every line")
    return [str(folder / Path(line).expanduser()) for line in named]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS or begins_like_an_image(path)


def _array(pixels: np.ndarray) -> list[tuple[str, Picture]]:
    """Of (H, W, 3), or (N, H, W, 3)."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise UserError(
            f"an array {pixels.dtype} {pixels.shape} is no image: give uint8 (H, W, 3), or (N, H, W, 3) for several"
        )
    several = pixels if pixels.ndim == 4 else pixels[None]
    return [(f"array {i}", Image.fromarray(image)) for i, image in enumerate(several)]
