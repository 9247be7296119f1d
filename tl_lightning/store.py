"""Entries in the cache folder: whole or absent, used by several processes, least recently used removed first."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.filesize import decimal

from tl_lightning.paths import cache_bytes, cache_dir

_FACTS = "entry.json"
_NO_ROOM = (errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


class NoRoom(Exception):
    """An entry cannot be kept; the message says why."""


@dataclass(frozen=True)
class Entry:
    """A folder of files with the facts about them."""

    folder: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What the entry was made from; nothing where somebody has made something else of the file."""
        try:
            facts = json.loads((self.folder / _FACTS).read_text(encoding="utf-8"))
        except ValueError:
            return {}
        return facts if isinstance(facts, dict) else {}

    @property
    def bytes(self) -> int:
        """What it takes on disk, or will take once it is filled."""
        return _size(self.folder)

    @property
    def used(self) -> float:
        """When it was last asked for, in seconds since the epoch."""
        return (self.folder / _FACTS).stat().st_mtime


class Store:
    """Entries of one kind ("features", "images") under the cache folder."""

    def __init__(self, kind: str) -> None:
        self.root = cache_dir() / kind

    def get(self, key: str) -> Entry | None:
        """The entry of this key, marked as used now."""
        entry = Entry(self.root / key)
        try:
            os.utime(entry.folder / _FACTS)
        except OSError:
            return None
        return entry

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Held by one process at a time. Raises NoRoom where the folder cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / f"{key}.lock")
            lock.acquire()
        except OSError as error:
            raise NoRoom(f"{self.root} cannot be written: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def writing(self, key: str, facts: Mapping[str, Any]) -> Iterator[Path]:
        """A folder to fill, which becomes the entry at the end; left by an exception it is removed.

        Raises NoRoom when the disk fills up meanwhile.
        """
        try:
            draft = Path(tempfile.mkdtemp(dir=self.root, prefix=f"{key}.", suffix=".part"))
        except OSError as error:
            raise NoRoom(f"{self.root} cannot be written: {error.strerror or error}") from error
        try:
            yield draft
            (draft / _FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
            self.remove(key)
            os.rename(draft, self.root / key)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise NoRoom(f"{self.root}: {error.strerror}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def remove(self, key: str) -> None:
        """Forget an entry; a process that has it mapped keeps reading it."""
        shutil.rmtree(self.root / key, ignore_errors=True)

    def make_room(self, size: int) -> None:
        """Remove what was least recently used until `size` bytes more may be kept. Raises NoRoom if that cannot be."""
        budget = cache_bytes()
        if size > budget:
            raise NoRoom(f"{human(size)} are more than TL_CACHE_GB={budget / 1e9:g} allows")
        _remove_abandoned()
        free = shutil.disk_usage(self.root).free
        if size > free:
            raise NoRoom(f"{human(size)} are more than the {human(free)} that are free at {self.root}")
        held = []
        for entry in entries():
            with suppress(FileNotFoundError):  # another process removes, too
                held.append((entry.used, entry.bytes, entry.folder))
        total = sum(taken for _, taken, _ in held)
        for _, taken, folder in sorted(held):
            if total + size <= budget:
                break
            total -= taken
            shutil.rmtree(folder, ignore_errors=True)


def entries() -> list[Entry]:
    """All whole entries in the cache folder."""
    return [Entry(p.parent) for p in cache_dir().glob(f"*/*/{_FACTS}") if not p.parent.name.endswith(".part")]


def clear() -> int:
    """Remove all entries, and what killed processes have left half written; gives the bytes that are free again."""
    gone = _remove_abandoned()
    for entry in entries():
        gone += entry.bytes
        shutil.rmtree(entry.folder, ignore_errors=True)
    return gone


def _remove_abandoned() -> int:
    """Remove drafts whose key nobody holds: killed processes have left them. Gives their bytes."""
    gone = 0
    for draft in cache_dir().glob("*/*.part"):
        with suppress(Timeout, OSError), FileLock(draft.parent / f"{draft.name.split('.')[0]}.lock", timeout=0):
            gone += _size(draft)
            shutil.rmtree(draft, ignore_errors=True)
    return gone


def human(size: float) -> str:
    """A number of bytes in the unit that suits it; a machine that does not say how much there is has no limit."""
    return decimal(int(size)) if math.isfinite(size) else "no limit"


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
