"""A tar file of samples, each of files that have all but their ending in common: 0001.jpg, 0001.cls."""

from __future__ import annotations

import json
import logging
import os
import posixpath
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from tl_lightning.data.images.decode import EXTENSIONS
from tl_lightning.data.images.shards.record import Record
from tl_lightning.errors import UserError

log = logging.getLogger(__name__)

_LABELS = ("cls", "label", "class", "txt")  # endings of files that hold a label alone; JSON comes before the last
_LONGEST = 2**20  # bytes of a label
Parts = dict[str, tarfile.TarInfo]  # by ending


class TarShard:
    """An open tar file, read anywhere."""

    anywhere: ClassVar[bool] = True  # one image is as quickly read as another

    def __init__(self, file: Path, name: str) -> None:
        self.path, self.name = file, name
        self.file = os.open(file, os.O_RDONLY)

    def records(self) -> list[Record]:
        """Where the image of each sample lies, and its label. Raises UserError for a file that is damaged."""
        members = self._members()
        found, used = [], 0
        for key, parts in _samples(members):
            picture = next((m for ending, m in parts.items() if _is_image(ending)), None)
            if picture is not None:
                used += 1
                ending = posixpath.splitext(picture.name)[1]
                found.append(Record(f"{key}{ending}", self._label(parts, key), 0, picture.offset_data, picture.size))
        images = sum(_is_image(member.name.rpartition(".")[2].lower()) for member in members)
        if images > used:
            log.info(f"shards    {images - used} images in {self.name} are beside another of their sample: left alone")
        return found

    def read(self, record: Record) -> bytes:
        """The image of a record."""
        return os.pread(self.file, record.size, record.start)

    def close(self) -> None:
        """Give the file back."""
        os.close(self.file)

    def _members(self) -> list[tarfile.TarInfo]:
        """All files in it. Raises UserError for what is no tar file, was cut short, or goes on behind its end."""
        try:
            with tarfile.open(self.path, "r:") as archive:
                members = [member for member in archive if member.isfile()]
                end = archive.offset
        except (tarfile.TarError, OSError) as error:
            raise UserError(f"{self.name} cannot be read to its end ({error}): fetch it again") from error
        length, rest = self.path.stat().st_size, end
        if end >= length:
            raise UserError(f"{self.name} was cut short: it has no end mark; fetch it again")
        while rest < length:  # tarfile stops at a damaged header as it does at the end
            part = os.pread(self.file, 2**20, rest)
            if part.strip(b"\0"):
                raise UserError(
                    f"{self.name} is damaged at byte {end}, or two files in one: fetch it, or write it, again"
                )
            rest += len(part)
        return members

    def _label(self, parts: Parts, key: str) -> str:
        """Empty for none. Raises UserError for what is no JSON."""
        if "json" in parts and not {"cls", "label", "class"} & parts.keys():
            try:
                facts = json.loads(self._content(parts["json"]))
            except ValueError as error:
                raise UserError(f"{self.name}: {key}.json is no JSON ({error})") from error
            if isinstance(facts, dict):
                facts = next((facts[k] for k in ("label", "class", "cls") if k in facts), None)
            if facts is not None:
                return str(facts)
        named = next((parts[ending] for ending in _LABELS if ending in parts), None)
        return "" if named is None else self._content(named).decode("utf-8", "replace").strip()

    def _content(self, member: tarfile.TarInfo) -> bytes:
        return os.pread(self.file, min(member.size, _LONGEST), member.offset_data)


def _samples(members: list[tarfile.TarInfo]) -> Iterator[tuple[str, Parts]]:
    """(key, files by ending) of each: keys end at the first dot, or at the last where no image has a plain ending."""
    by_key: dict[str, Parts] = defaultdict(dict)
    for member in members:
        folder, base = posixpath.split(member.name)
        stem, _, ending = base.partition(".")
        by_key[posixpath.join(folder, stem)][ending.lower()] = member
    for key, parts in by_key.items():
        if any(_is_image(ending) for ending in parts):
            yield key, parts
            continue
        deeper: dict[str, Parts] = defaultdict(dict)
        for ending, member in parts.items():
            inner, _, last = ending.rpartition(".")
            deeper[f"{key}.{inner}" if inner else key][last] = member
        yield from deeper.items()


def _is_image(ending: str) -> bool:
    return f".{ending}" in EXTENSIONS
