"""A tar file of samples, each of files that have all but their ending in common: 0001.jpg, 0001.cls."""

from __future__ import annotations

import json
import os
import posixpath
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import BinaryIO

from tl_lightning.data.images.decode import EXTENSIONS
from tl_lightning.data.images.shards.record import Record
from tl_lightning.errors import UserError

_LABELS = ("cls", "label", "class", "txt")  # endings of files that hold a label alone
_END = 1024  # zeros at the end of a tar file
_LONGEST = 2**20  # bytes of a label


def records(file: Path, name: str) -> list[Record]:
    """Where the image of each sample begins, how long it is, and its label; a sample without a label has none.

    Raises UserError for a file that is no tar file, or was cut short.
    """
    members: dict[str, dict[str, tarfile.TarInfo]] = defaultdict(dict)
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if member.isfile():
                    folder, base = posixpath.split(member.name)
                    stem, _, ending = base.partition(".")
                    members[posixpath.join(folder, stem)][ending.lower()] = member
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{name} cannot be read to its end ({error}): fetch it again") from error
    with file.open("rb") as whole:
        whole.seek(-min(_END, file.stat().st_size), os.SEEK_END)
        if whole.read().strip(b"\0"):
            raise UserError(f"{name} was cut short: it has no end mark; fetch it again")
        found = []
        for key, parts in members.items():
            picture = next((m for ending, m in parts.items() if f".{ending}" in EXTENSIONS), None)
            if picture is not None:
                label = _label({e: _content(whole, m) for e, m in parts.items() if e in (*_LABELS, "json")}, name, key)
                found.append(
                    Record(f"{key}{posixpath.splitext(picture.name)[1]}", label, picture.offset_data, picture.size)
                )
    return found


def read(file: int, record: Record) -> bytes:
    """The image of a record, from an open file."""
    return os.pread(file, record.size, record.start)


def _content(whole: BinaryIO, member: tarfile.TarInfo) -> bytes:
    whole.seek(member.offset_data)
    return whole.read(min(member.size, _LONGEST))


def _label(parts: dict[str, bytes], name: str, key: str) -> str:
    for ending in _LABELS:
        if ending in parts:
            return parts[ending].decode("utf-8", "replace").strip()
    if "json" in parts:
        try:
            facts = json.loads(parts["json"])
        except ValueError as error:
            raise UserError(f"{name}: {key}.json is no JSON ({error})") from error
        value = (
            next((facts[k] for k in ("label", "class", "cls") if k in facts), "") if isinstance(facts, dict) else facts
        )
        return str(value)
    return ""
