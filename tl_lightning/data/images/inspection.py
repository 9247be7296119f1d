"""One look at every image file: whether it can be read, and what training should know of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import PIL
from PIL import Image

from tl_lightning.data.file_memo import remembered
from tl_lightning.data.images.decode import DEFAULT, highest_level, opened, to_rgb
from tl_lightning.data.images.foreign import what_else
from tl_lightning.inputs import Reading

_DRAFT = 64


@dataclass(frozen=True)
class Finding:
    """What one look at a file has found.

    `fault`: why it cannot be used, empty if it can. `digest` of its bytes. `level`: the highest of 16 bits, 0 of other
    images. `blank`: all its pixels are one value.
    """

    fault: str = ""
    digest: str = ""
    level: int = 0
    blank: bool = False


def look(root: Path, paths: Sequence[str], reading: Reading = DEFAULT, draft: bool = True) -> Mapping[str, Finding]:
    """Findings by path (relative to `root`), for JPEGs that will be drafted or not; a second look is quick."""
    options = f"{reading.ground.strip('#')}-{reading.max_megapixels:g}-{'draft' if draft else 'whole'}"
    find = partial(_look, reading=reading, at_least=_DRAFT if draft else None)
    doing = "checking that {} images can be read"
    found = remembered(f"looks-{PIL.__version__}-{options}", root, paths, find, doing, _valid)
    return {path: Finding(*values) for path, values in found.items()}


def _look(path: Path, reading: Reading, at_least: int | None) -> list[Any]:
    return list(astuple(_finding(path, reading, at_least)))


def _finding(path: Path, reading: Reading, at_least: int | None) -> Finding:
    try:
        if foreign := what_else(path):
            return Finding(foreign)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        with opened(path, at_least, reading) as image:
            image.load()  # a JPEG at an eighth of its size, yet read to its end
            return Finding("", digest, highest_level(image), _is_blank(to_rgb(image, reading)))
    except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
        return Finding(f"{type(error).__name__}: {error}".replace(str(path), path.name))


def _is_blank(image: Image.Image) -> bool:
    extrema = image.getextrema()
    pairs = extrema if isinstance(extrema[0], tuple) else [extrema]
    return all(low == high for low, high in pairs)


def _valid(answer: Any) -> bool:
    """Whether what was remembered is a finding."""
    kinds = (str, str, int, bool)
    return isinstance(answer, list) and [type(value) for value in answer] == list(kinds)
