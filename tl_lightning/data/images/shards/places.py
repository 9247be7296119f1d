"""Where shards lie: files, and URLs of which as many are kept on this machine as its cache has room for."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from tl_lightning.data.file_memo import stamp
from tl_lightning.errors import UserError
from tl_lightning.store import NoRoom, Store

ENDINGS = (".tar", ".parquet")
_SCHEMES = ("http", "https", "s3", "gs", "hf", "az", "abfs")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{},]*(?:,[^{},]*)+)\}")
_TRIES = 3
# What servers say of a file that changes when it does.
_FACTS = ("size", "ETag", "etag", "Last-Modified", "LastModified", "last_modified", "mtime", "updated", "blob_id",
          "last_commit", "md5Hash", "content_md5")  # fmt: skip
T = TypeVar("T")


def shard_names(said: str | list[str]) -> list[str]:
    """The shards of a folder, a pattern (`train-*.tar`), a name with braces (`train-{000..099}.tar`), or a list.

    Raises UserError where there are none, for what is compressed, and for addresses that nothing here reads.
    """
    if not isinstance(said, str):
        return list(dict.fromkeys(chain.from_iterable(map(shard_names, said))))
    names = [name for expanded in _braces(said) for name in _listed(expanded)]
    if not names:
        raise UserError(f"data.shards={said}: there are no shards ({', '.join(ENDINGS)})")
    if strange := [name for name in names if not name.lower().endswith(ENDINGS)]:
        raise UserError(
            f"data.shards: {strange[0]} is none of {', '.join(ENDINGS)}: shards are read anywhere in them, so tar "
            "files must not be compressed"
        )
    return names


def is_remote(name: str) -> bool:
    """Whether a shard's name is an address. Raises UserError for one that nothing here reads."""
    scheme, separator, _ = name.partition("://")
    if not separator:
        return False
    if scheme not in _SCHEMES or "::" in name:
        raise UserError(f"data.shards: {name}: addresses begin with {', '.join(f'{s}://' for s in _SCHEMES)}")
    return True


class Shards:
    """Gives files for shards: those on this machine as they are, others once they have been fetched into the cache."""

    def __init__(self) -> None:
        self._identities: dict[str, str] = {}

    def identity(self, name: str) -> str:
        """What changes when a shard does. Raises UserError for one that is not there, or does not answer."""
        if name not in self._identities:
            facts = _answer(name) if is_remote(name) else stamp(Path(name))
            if facts == [-1, -1]:
                raise UserError(f"data.shards: {name} does not exist")
            where = name if is_remote(name) else str(Path(name).resolve())
            whole = json.dumps([where, facts], default=str)
            self._identities[name] = hashlib.sha256(whole.encode()).hexdigest()[:32]
        return self._identities[name]

    def opened(self, name: str, open_file: Callable[[Path], T]) -> T:
        """What opens the file of a shard gives. Raises UserError where it cannot be fetched, or has no room."""
        if not is_remote(name):
            return open_file(Path(name))
        store, key = Store("shards"), self.identity(name)
        for _ in range(_TRIES):  # another process may remove it for what it fetches itself
            try:
                with store.lock(key):
                    if not store.get(key):
                        _fetch(name, store, key)
                    return open_file(store.root / key / "shard")
            except NoRoom as why:
                raise UserError(f"{name} cannot be kept while it is read: {why}") from why
            except FileNotFoundError:
                continue
        raise UserError(
            f"{name} is removed for others as soon as it has come: TL_CACHE_GB must have room for more shards"
        )


def _answer(name: str) -> dict[str, Any]:
    """What a server says of a file: its size and, if it does, what changes with it."""
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(name)
        facts = files.info(path)
    except Exception as error:  # libraries of every service have their own
        raise UserError(f"{name} does not answer: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return {key: facts.get(key) for key in _FACTS}


def _fetch(name: str, store: Store, key: str) -> None:
    """Put a shard into the store. Raises UserError where it does not come whole, NoRoom."""
    from fsspec.core import url_to_fs

    size = int(_answer(name).get("size") or 0)
    store.make_room(size)
    with store.writing(key, {"url": name}) as draft:
        for attempt in range(_TRIES):
            try:
                files, path = url_to_fs(name)
                files.get_file(path, str(draft / "shard"))
                if size and (draft / "shard").stat().st_size != size:
                    raise OSError(f"{(draft / 'shard').stat().st_size} of {size} bytes came")
                return
            except Exception as error:  # libraries of every service have their own
                if attempt == _TRIES - 1:
                    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
                    raise UserError(f"{name} could not be fetched: {said}") from error


def _braces(said: str) -> Iterator[str]:
    """A name with {000..011} and {a,b} in it, written out."""
    if found := _RANGE.search(said):
        first, last = found[1], found[2]
        parts = [str(k).zfill(len(first)) for k in range(int(first), int(last) + 1)]
    elif found := _CHOICE.search(said):
        parts = found[1].split(",")
    else:
        yield said
        return
    for part in parts:
        yield from _braces(f"{said[: found.start()]}{part}{said[found.end() :]}")


def _listed(name: str) -> list[str]:
    if is_remote(name):
        return [name]
    path = Path(name).expanduser()
    if path.is_dir():
        return sorted(str(p) for p in path.iterdir() if p.suffix.lower() in ENDINGS)
    return sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(name) else [str(path)]
