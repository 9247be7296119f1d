"""Images in shards, read anywhere: found, checked and indexed once."""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Any

from tl_lightning import machine
from tl_lightning.bar import Bar
from tl_lightning.data.images.inspection import DRAFT, Finding, finding_of, is_finding
from tl_lightning.data.images.shards import tar_shard
from tl_lightning.data.images.shards.parquet_shard import ParquetShard
from tl_lightning.data.images.shards.places import Shards
from tl_lightning.data.images.shards.record import Record
from tl_lightning.files import atomically
from tl_lightning.inputs import Reading
from tl_lightning.paths import cache_dir

log = logging.getLogger(__name__)

_OPEN = 32  # shards at once in a process
Indexed = list[tuple[Record, Finding]]


class ShardReader:
    """Gives the bytes of a record of a shard, in whichever process it is asked."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self._open: OrderedDict[str, int | ParquetShard] = OrderedDict()

    def read(self, shard: str, record: Record) -> bytes:
        """The file of an image. Raises UserError for a shard that cannot be had."""
        opened = self._opened(shard)
        return opened.read(record) if isinstance(opened, ParquetShard) else tar_shard.read(opened, record)

    def records(self, shard: str) -> list[Record]:
        """What a shard holds. Raises UserError for one that is damaged."""
        opened = self._opened(shard)
        if isinstance(opened, ParquetShard):
            return opened.records()
        return tar_shard.records(self.shards.file(shard), shard)

    def _opened(self, shard: str) -> int | ParquetShard:
        if shard not in self._open:
            file = self.shards.file(shard)
            parquet = shard.lower().endswith(".parquet")
            self._open[shard] = ParquetShard(file, shard) if parquet else os.open(file, os.O_RDONLY)
            if len(self._open) > _OPEN:
                _, oldest = self._open.popitem(last=False)
                _close(oldest)
        self._open.move_to_end(shard)
        return self._open[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __del__(self) -> None:
        for opened in self._open.values():
            _close(opened)


def index(reader: ShardReader, names: Sequence[str], reading: Reading, draft: bool) -> dict[str, Indexed]:
    """What every shard holds, and one look at each image; remembered until a shard changes.

    Raises UserError for shards that cannot be had, or are damaged.
    """
    found: dict[str, Indexed] = {}
    with Bar(len(names), "shards", "index") as shown:
        for name in names:
            options = f"{reader.shards.identity(name)}-{reading.ground.strip('#')}-{reading.max_megapixels:g}-{draft}"
            known = cache_dir() / "shard-index" / f"{options}.json"
            rows = _remembered(known)
            if rows is None:
                rows = _looked_at(reader, name, reading, draft)
                _remember(known, rows)
            found[name] = rows
            shown.advance(1)
    return found


def _looked_at(reader: ShardReader, name: str, reading: Reading, draft: bool) -> Indexed:
    records = reader.records(name)

    def look(record: Record) -> Finding:
        try:
            whole = reader.read(name, record)
        except Exception as error:  # of a row that holds no image
            return Finding(f"{type(error).__name__}: {error}")
        return finding_of(whole, record.key, reading, DRAFT if draft else None)

    parquet = name.lower().endswith(".parquet")  # whose groups of rows are read one after another
    with ThreadPoolExecutor(1 if parquet else machine.cores()) as pool:
        return list(zip(records, pool.map(look, records), strict=True))


def _remembered(known: Path) -> Indexed | None:
    """What was found before; None for nothing, or for what is no such file."""
    try:
        rows = json.loads(known.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 2 for row in rows):
        return None
    kinds = [type(value) for value in astuple(Record("", "", 0, 0))]
    if not all(isinstance(r, list) and [type(v) for v in r] == kinds and is_finding(f) for r, f in rows):
        return None
    return [(Record(*record), Finding(*finding)) for record, finding in rows]


def _remember(known: Path, rows: Indexed) -> None:
    text = json.dumps([[list(astuple(record)), list(astuple(finding))] for record, finding in rows])
    try:
        atomically(known, lambda draft: draft.write_text(text, encoding="utf-8"))
    except OSError as error:
        log.info(f"{known.parent} cannot be written ({error.strerror}): the next run reads the shards again")


def _close(opened: int | ParquetShard) -> None:
    if isinstance(opened, int):
        os.close(opened)
