"""Any image file as correct 8-bit RGB."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

_ORIENTATION = 0x0112


def load_rgb(path: str | Path, at_least: int | None = None) -> Image.Image:
    """The image upright (EXIF), as RGB; transparency on white, 16 bits scaled down, first frame of an animation.

    `at_least`: pixels of the short side that will do. A JPEG of twice as many or more is decoded at 1/2, 1/4 or 1/8
    of its size, with the less work: the inverse cosine transform does the shrinking.

    Raises OSError, SyntaxError or ValueError (whatever Pillow finds) if the file cannot be decoded whole.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken EXIF blocks and odd palettes: Pillow warns, then copes
        with Image.open(path) as image:
            if at_least is not None:
                image.draft(None, (at_least, at_least))  # only JPEG knows how to
            image.load()
            return to_rgb(_upright(image))


def size(path: str | Path) -> tuple[int, int]:
    """Width and height of the upright image, from the file's header alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            try:
                turned = image.getexif().get(_ORIENTATION, 1) >= 5
            except Exception:  # as in _upright
                turned = False
            return (image.height, image.width) if turned else image.size


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block raises anything; the pixels are none the worse for it
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB; transparency on white, 16 bits scaled down."""
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(np.asarray(image)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _scaled(values: np.ndarray) -> Image.Image:
    """Grey levels of 16-bit integers, or of floats in [0, 1], as 8 bits; wider ranges are stretched to fit."""
    levels = values.astype(np.float64)
    top = 1.0 if values.dtype.kind == "f" else 65535.0
    if levels.min() < 0 or levels.max() > top:
        levels, top = levels - levels.min(), float(np.ptp(levels)) or 1.0
    return Image.fromarray(np.round(levels / top * 255).astype(np.uint8))
