"""Finds the files that cannot be decoded before training does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tl_lightning.data.file_memo import remembered
from tl_lightning.data.images.decode import load_rgb

_DRAFT = (64, 64)


def unreadable(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Reasons by path (relative to `root`) for the files that do not decode whole; a second look is quick."""
    faults = remembered("scans", root, paths, _fault, "checking that {} images can be read")
    return {p: str(reason) for p, reason in faults.items() if reason}


def _fault(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            if image.format == "JPEG":
                image.draft("RGB", _DRAFT)  # decodes at an eighth of the size, yet reads the file to its end
                image.load()
                return None
        load_rgb(path)
    except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
        return f"{type(error).__name__}: {error}".replace(str(path), path.name)
    return None
