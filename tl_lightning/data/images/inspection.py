"""One look at every image file: whether it can be read, and what training should know of it."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError

from tl_lightning.data.file_memo import remembered
from tl_lightning.data.images.decode import (
    DEFAULT,
    File,
    highest_level,
    opened,
    orientation,
    to_rgb,
    upright,
    upright_size,
)
from tl_lightning.data.images.foreign import HEAD, what_begins, what_else
from tl_lightning.inputs import Reading

_AT_ONCE = 2**25  # bytes of a file that is read at once
DRAFT = 64  # pixels that a drafted JPEG has at least
THUMBNAIL = 16


@dataclass(frozen=True)
class Finding:
    """What one look at a file has found.

    `fault`: why it cannot be used, empty if it can. `digest` of its bytes. `level`: the highest of 16 bits, 0 of other
    images. `spread`: standard deviation of its grey levels, 0 to 128. `width`, `height`: upright. `kind`: what Pillow
    calls its format; `frames` of an animation. `thumbnail`: grey, THUMBNAIL squared, in base64.
    """

    fault: str = ""
    digest: str = ""
    level: int = 0
    blank: bool = False
    spread: float = 0.0
    width: int = 0
    height: int = 0
    turned: bool = False
    kind: str = ""
    mode: str = ""
    frames: int = 0
    thumbnail: str = ""


_KINDS = [type(value) for value in astuple(Finding())]


def thumbnails(findings: Sequence[Finding]) -> np.ndarray:
    """Grey levels (N, THUMBNAIL, THUMBNAIL), uint8."""
    whole = b"".join(base64.b64decode(f.thumbnail) for f in findings)
    return np.frombuffer(whole, np.uint8).reshape(len(findings), THUMBNAIL, THUMBNAIL)


def look(root: Path, paths: Sequence[str], reading: Reading = DEFAULT, draft: bool = True) -> Mapping[str, Finding]:
    """Findings by path (relative to `root`), for JPEGs that will be drafted or not; a second look is quick."""
    options = f"{reading.ground.strip('#')}-{reading.max_megapixels:g}-{'draft' if draft else 'whole'}"
    find = partial(_look, reading=reading, at_least=DRAFT if draft else None)
    doing = "checking that {} images can be read"
    found = remembered(f"looks-{PIL.__version__}-{options}", root, paths, find, doing, is_finding)
    return {path: Finding(*values) for path, values in found.items()}


def _look(path: Path, reading: Reading, at_least: int | None) -> list[Any]:
    return list(astuple(_finding(path, reading, at_least)))


def _finding(path: Path, reading: Reading, at_least: int | None) -> Finding:
    try:
        if foreign := what_else(path):
            return Finding(foreign)
        if path.stat().st_size <= _AT_ONCE:
            return finding_of(path.read_bytes(), path.name, reading, at_least)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        return _decoded(path, digest, reading, at_least)
    except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
        return _unread(error, path.name, str(path))


def finding_of(whole: bytes, name: str, reading: Reading = DEFAULT, at_least: int | None = DRAFT) -> Finding:
    """What one look at the bytes of an image file, which is called `name`, finds."""
    try:
        if foreign := what_begins(whole[:HEAD]):
            return Finding(foreign)
        digest = hashlib.blake2b(whole, digest_size=16).hexdigest()
        return _decoded(io.BytesIO(whole), digest, reading, at_least)
    except Exception as error:  # as above
        return _unread(error, name, name)


def _decoded(file: File, digest: str, reading: Reading, at_least: int | None) -> Finding:
    with opened(file, at_least, reading) as image:
        kind, mode = image.format or "", image.mode
        image.load()  # a JPEG at an eighth of its size, yet read to its end; asking for a PNG's EXIF would hide faults
        (width, height), turned = upright_size(image), orientation(image) > 1
        frames = getattr(image, "n_frames", 1)
        level, rgb = highest_level(image), to_rgb(upright(image) if turned else image, reading)
    grey = rgb.convert("L")
    return Finding(
        digest=digest, level=level, blank=_is_blank(rgb), spread=float(np.asarray(grey).std()), width=width,
        height=height, turned=turned, kind=kind, mode=mode, frames=frames, thumbnail=_thumbnail(grey),
    )  # fmt: skip


def _unread(error: Exception, name: str, path: str) -> Finding:
    if isinstance(error, UnidentifiedImageError):
        return Finding(f"UnidentifiedImageError: cannot identify image file '{name}'")
    return Finding(f"{type(error).__name__}: {error}".replace(path, name))


def _thumbnail(grey: Image.Image) -> str:
    way = Image.Resampling.BOX if min(grey.size) >= THUMBNAIL else Image.Resampling.BILINEAR
    return base64.b64encode(grey.resize((THUMBNAIL, THUMBNAIL), way).tobytes()).decode()


def _is_blank(image: Image.Image) -> bool:
    extrema = image.getextrema()
    pairs = extrema if isinstance(extrema[0], tuple) else [extrema]
    return all(low == high for low, high in pairs)


def is_finding(answer: Any) -> bool:
    """Whether what was remembered is a finding."""
    return isinstance(answer, list) and [type(value) for value in answer] == _KINDS
