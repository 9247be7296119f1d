"""What has been found out about a file is remembered until the file changes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tl_lightning import machine
from tl_lightning.bar import Bar
from tl_lightning.files import atomically
from tl_lightning.paths import cache_dir

log = logging.getLogger(__name__)


def remembered(
    kind: str,
    root: Path,
    paths: Sequence[str],
    find: Callable[[Path], Any],
    doing: str,
    valid: Callable[[Any], bool],
) -> dict[str, Any]:
    """`find(root / path)` (something that JSON holds) for every path, computed anew only where the file has changed.

    Answers are remembered in the cache folder by path, size and time of change; those that are not `valid` are found
    anew. `doing` tells the user what takes its time: "checking that {} images can be read".
    """
    memory = cache_dir() / kind / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]}.json"
    kept = read_memory(memory)
    before: dict[str, Any] = kept if isinstance(kept, dict) else {}
    stamps = {p: stamp(root / p) for p in paths}
    new = [p for p in paths if not _holds(before.get(p), stamps[p], valid)]
    if len(new) > 1000:
        log.info(f"{doing.format(len(new))} (once; the answer is remembered)")
    found = {}
    with ThreadPoolExecutor(machine.cores()) as pool, Bar(len(new), "images", "read") as shown:
        for path, answer in zip(new, pool.map(lambda p: find(root / p), new), strict=True):
            found[path] = answer
            shown.advance(1)
    if new:
        write_memory(memory, before | {p: [*stamps[p], found[p]] for p in new})
    return {p: found[p] if p in found else before[p][2] for p in paths}


def stamp(path: Path) -> list[int]:
    """Size and time of change, [-1, -1] if there is no such file."""
    try:
        status = path.stat()
    except OSError:  # a dangling link; opening it says so
        return [-1, -1]
    return [status.st_size, status.st_mtime_ns]


def _holds(remembered: Any, stamp: list[int], valid: Callable[[Any], bool]) -> bool:
    """Whether an entry of the memory, of which anybody may have made anything, is an answer for the file as it is."""
    is_entry = isinstance(remembered, list) and len(remembered) == 3 and remembered[:2] == stamp
    return is_entry and stamp != [-1, -1] and valid(remembered[2])


def read_memory(memory: Path) -> Any:
    """What JSON a file of the cache holds, of which anybody may have made anything; None for none."""
    try:
        return json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_memory(memory: Path, answers: Any) -> None:
    """Keep answers in a file of the cache, if it can be written."""
    text = json.dumps(answers)
    try:
        atomically(memory, lambda draft: draft.write_text(text, encoding="utf-8"))
    except OSError as error:
        log.info(f"{memory.parent} cannot be written ({error.strerror}): the next run reads {len(answers)} files again")
