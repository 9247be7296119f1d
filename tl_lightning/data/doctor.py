"""Finds the files that cannot be decoded before training does."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from tl_lightning.data.images import load_rgb
from tl_lightning.paths import cache_dir

log = logging.getLogger(__name__)

_DRAFT = (64, 64)


def unreadable(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Reasons by path (relative to `root`) for the files that do not decode whole.

    Verdicts are remembered in the cache folder by path, size and time of change, so that a second look is quick.
    """
    memory = cache_dir() / "scans" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]}.json"
    known = _remembered(memory)
    stamps = {p: _stamp(root / p) for p in paths}
    new = [p for p in paths if known.get(p, [None])[:2] != stamps[p]]
    if len(new) > 1000:
        log.info(f"checking that {len(new)} images can be read (once; the verdict is remembered)")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = dict(zip(new, pool.map(lambda p: _fault(root / p), new), strict=True))
    if new:
        _remember(memory, known | {p: [*stamps[p], verdicts[p]] for p in new})
    faults = {p: verdicts[p] if p in verdicts else known[p][2] for p in paths}
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


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:  # a dangling link; opening it says so
        return [-1, -1]
    return [status.st_size, status.st_mtime_ns]


def _remembered(memory: Path) -> dict[str, list[object]]:
    try:
        known: dict[str, list[object]] = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return known


def _remember(memory: Path, verdicts: dict[str, list[object]]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as file:
            json.dump(verdicts, file)
        os.replace(file.name, memory)
    except OSError as error:
        log.info(f"the verdicts on {len(verdicts)} images cannot be kept in {memory}: {error}")
