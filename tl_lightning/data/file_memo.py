"""What has been found out about a file is remembered until the file changes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tl_lightning import machine
from tl_lightning.paths import cache_dir

log = logging.getLogger(__name__)


def remembered(kind: str, root: Path, paths: Sequence[str], find: Callable[[Path], Any], doing: str) -> dict[str, Any]:
    """`find(root / path)` (something that JSON holds) for every path, computed anew only where the file has changed.

    Answers are remembered in the cache folder by path, size and time of change. `doing` tells the user what takes
    its time: "checking that {} images can be read".
    """
    memory = cache_dir() / kind / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]}.json"
    before = _read(memory)
    stamps = {p: stamp(root / p) for p in paths}
    new = [p for p in paths if before.get(p, [None])[:2] != stamps[p]]
    if len(new) > 1000:
        log.info(f"{doing.format(len(new))} (once; the answer is remembered)")
    with ThreadPoolExecutor(machine.cores()) as pool:
        found = dict(zip(new, pool.map(lambda p: find(root / p), new), strict=True))
    if new:
        _write(memory, before | {p: [*stamps[p], found[p]] for p in new})
    return {p: found[p] if p in found else before[p][2] for p in paths}


def stamp(path: Path) -> list[int]:
    """Size and time of change, [-1, -1] if there is no such file."""
    try:
        status = path.stat()
    except OSError:  # a dangling link; opening it says so
        return [-1, -1]
    return [status.st_size, status.st_mtime_ns]


def _read(memory: Path) -> dict[str, list[Any]]:
    try:
        answers: dict[str, list[Any]] = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return answers


def _write(memory: Path, answers: dict[str, list[Any]]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as file:
            json.dump(answers, file)
        os.replace(file.name, memory)
    except OSError as error:
        log.info(f"{memory.parent} cannot be written ({error.strerror}): the next run reads {len(answers)} files again")
