"""Any image file as correct 8-bit RGB."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageColor, ImageOps

from tl_lightning.inputs import Reading

# What Pillow may try: no format that starts another program (EPS: Ghostscript) or holds more than pixels.
_FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "MPO", "PPM", "DIB", "ICO", "PCX", "SGI", "TGA",
)  # fmt: skip
EXTENSIONS = frozenset(
    f".{ending}"
    for ending in "jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff avif avifs jp2 j2k mpo ppm pgm pbm pnm ico pcx "
    "sgi rgb tga".split()
)
DEFAULT = Reading()
File = str | Path | BinaryIO

FULL_SIZE = "full_size"  # in `info` of an opened image: width and height before it was drafted
_ORIENTATION = 0x0112
_LONGEST = 32  # times the short side: what is longer is cut at both ends, as no crop looks there
Image.MAX_IMAGE_PIXELS = None  # a limit for all of Pillow; ours is `Reading.max_megapixels`, and says what to do


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of the formats that the installed Pillow can read."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@contextmanager
def opened(file: File, at_least: int | None = None, reading: Reading = DEFAULT) -> Iterator[Image.Image]:
    """An image file whose pixels have not been decoded yet, a JPEG drafted; Pillow's warnings are passed over.

    Raises ValueError for more pixels than may be decoded, OSError or whatever Pillow finds for what is no image.
    """
    _refuse_many(*_icon_size(file), reading)  # which Pillow decodes while it opens it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken EXIF blocks and odd palettes: Pillow warns, then copes
        with Image.open(file, formats=formats()) as image:
            image.info[FULL_SIZE] = image.size
            if image.info.get("progressive"):  # all of it is held in memory, however small it is decoded
                _refuse_many(*image.size, reading)
            if at_least is not None:
                image.draft(None, (at_least, at_least))  # only JPEG knows how to
            _refuse_many(*image.size, reading)
            yield image


def _refuse_many(width: int, height: int, reading: Reading) -> None:
    """Raise ValueError for more pixels than may be decoded."""
    megapixels = width * height / 1e6
    if megapixels > reading.max_megapixels:
        raise ValueError(
            f"{width} x {height} are {megapixels:.0f} megapixels, more than "
            f"data.max_megapixels={reading.max_megapixels:g}: resize it, or raise that"
        )


def _icon_size(file: File) -> tuple[int, int]:
    """Width and height of the largest picture of an icon (ICO); 0, 0 of any other file."""
    if isinstance(file, (str, Path)):
        with open(file, "rb") as whole:
            return _icon_size(whole)
    head, largest = file.read(6), (0, 0)
    if head[:4] == b"\0\0\1\0":
        entries = file.read(16 * int.from_bytes(head[4:6], "little"))
        for start in range(0, len(entries) - 15, 16):
            file.seek(int.from_bytes(entries[start + 12 : start + 16], "little"))
            picture = file.read(24)
            if picture.startswith(b"\x89PNG"):
                size = int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")
            else:  # a bitmap, twice as high as it is shown
                size = int.from_bytes(picture[4:8], "little"), int.from_bytes(picture[8:12], "little") // 2
            largest = max(largest, size, key=lambda sides: sides[0] * sides[1])
    file.seek(0)
    return largest


def load_rgb(file: File, at_least: int | None = None, reading: Reading = DEFAULT) -> Image.Image:
    """The image upright (EXIF), as RGB; transparency on a ground, 16 bits scaled down, first frame of an animation.

    `at_least`: pixels of the short side that will do. A JPEG of twice as many or more is decoded at 1/2, 1/4 or 1/8
    of its size, with the less work: the inverse cosine transform does the shrinking.

    Raises OSError, SyntaxError or ValueError (whatever Pillow finds) if the file cannot be decoded whole.
    """
    with opened(file, at_least, reading) as image:
        image.load()
        return to_rgb(_bounded(upright(image)), reading)


def size(path: str | Path) -> tuple[int, int]:
    """Width and height of the upright image as it is loaded, from the file's header alone."""
    with opened(path, reading=Reading(max_megapixels=float("inf"))) as image:
        width, height = upright_size(image)
        return min(width, _LONGEST * height), min(height, _LONGEST * width)


def orientation(image: Image.Image) -> int:
    """How an image is to be shown, as its EXIF block says: 1 as its pixels lie, from 5 on with its sides swapped."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # as in upright
        return 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image as it is to be shown, before it was drafted."""
    width, height = image.info[FULL_SIZE]
    return (height, width) if orientation(image) >= 5 else (width, height)


def upright(image: Image.Image) -> Image.Image:
    """An image as its EXIF block says that it is to be shown."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block raises anything; the pixels are none the worse for it
        return image


def _bounded(image: Image.Image) -> Image.Image:
    """The middle of an image that is many times as long as it is wide; resized whole it would take gigabytes."""
    width, height = min(image.width, _LONGEST * image.height), min(image.height, _LONGEST * image.width)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def highest_level(image: Image.Image) -> int:
    """The highest grey level of a loaded image of 16 bits; 0 of any other."""
    return int(np.asarray(image).max()) if image.mode.startswith("I;16") else 0


def to_rgb(image: Image.Image, reading: Reading = DEFAULT) -> Image.Image:
    """An image of any mode as RGB; transparency on a ground, 16 bits scaled down.

    Raises ValueError for values that are no numbers.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(np.asarray(image), reading.levels).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, ImageColor.getrgb(reading.ground))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def _scaled(values: np.ndarray, highest: int) -> Image.Image:
    """Grey levels of 16-bit integers, or of floats in [0, 1], as 8 bits; wider ranges are stretched to fit."""
    levels = values.astype(np.float64)
    if not np.isfinite(levels).all():
        raise ValueError("it holds values that are no numbers (NaN or infinity)")
    top = 1.0 if values.dtype.kind == "f" else float(highest)
    if levels.min() < 0 or levels.max() > top:
        levels, top = levels - levels.min(), float(np.ptp(levels)) or 1.0
    return Image.fromarray(np.round(levels / top * 255).astype(np.uint8))
