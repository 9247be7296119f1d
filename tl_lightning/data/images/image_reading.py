"""Images to predict for, as they come: files, folders, arrays, pictures in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from tl_lightning.data.images.decode import EXTENSIONS, load_rgb, to_rgb
from tl_lightning.data.images.foreign import begins_like_an_image, what_else
from tl_lightning.data.images.loading import stack as stack_images
from tl_lightning.data.images.transforms import eval_transform
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput, Reading


def read(source: Any, input: ImageInput) -> Iterator[tuple[str, Tensor]]:
    """(name, image (3, H, W) uint8 in the geometry of evaluation) of everything in `source`.

    `source`: a file, a folder (all images below it), an array (H, W, 3) or (N, H, W, 3) of 0..255, a PIL image, or a
    sequence of these. Raises UserError for what is none of them, or cannot be read.
    """
    transform = eval_transform(input)
    for name, image in _pictures(source, partial(_opened, at_least=transform.asks, reading=input.reading)):
        yield name, transform(image)


def stack(images: Sequence[Tensor], input: ImageInput) -> Tensor:
    """Images (3, H, W) as (N, 3, H, W)."""
    return stack_images(images)


def _pictures(source: Any, opened: Callable[[Path], Image.Image]) -> Iterator[tuple[str, Image.Image]]:
    if isinstance(source, (str, Path)):
        for path in _files(Path(source).expanduser()):
            yield str(path), opened(path)
    elif isinstance(source, Image.Image):
        yield "image", to_rgb(source)
    elif isinstance(source, np.ndarray):
        yield from _array(source)
    elif isinstance(source, Sequence) and source:
        for i, part in enumerate(source):
            for name, picture in _pictures(part, opened):
                yield (name if isinstance(part, (str, Path)) else f"{name} {i}"), picture
    else:
        raise UserError(
            f"{type(source).__name__} is no image: give a file, a folder, an array (H, W, 3) of 0..255, a PIL image, "
            "or a list of them"
        )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path} does not exist or is no regular file: give an image, or a folder of images")
    found = sorted(p for p in path.rglob("*") if not p.name.startswith(".") and p.is_file() and _is_image(p))
    if not found:
        raise UserError(f"{path} holds no images ({', '.join(sorted(EXTENSIONS))})")
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS or begins_like_an_image(path)


def _opened(path: Path, at_least: int, reading: Reading) -> Image.Image:
    try:
        if what := what_else(path):
            raise UserError(f"{path} {what}")
        return load_rgb(path, at_least, reading)
    except UserError:
        raise
    except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
        raise UserError(f"{path} cannot be read: {error}") from error


def _array(pixels: np.ndarray) -> Iterator[tuple[str, Image.Image]]:
    """Of (H, W, 3), or (N, H, W, 3)."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise UserError(
            f"an array {pixels.dtype} {pixels.shape} is no image: give uint8 (H, W, 3), or (N, H, W, 3) for several"
        )
    several = pixels if pixels.ndim == 4 else pixels[None]
    for i, image in enumerate(several):
        yield f"array {i}", Image.fromarray(image)
