"""Images in shards, read anywhere: found, checked and indexed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Any

import PIL

from tl_lightning import machine
from tl_lightning.bar import Bar
from tl_lightning.data.file_memo import read_memory, write_memory
from tl_lightning.data.images.inspection import DRAFT, Finding, finding_of, is_finding
from tl_lightning.data.images.shards.parquet_shard import WINDOW, ParquetShard
from tl_lightning.data.images.shards.places import Shards, is_remote
from tl_lightning.data.images.shards.record import Record
from tl_lightning.data.images.shards.tar_shard import TarShard
from tl_lightning.inputs import Reading
from tl_lightning.paths import cache_dir

_KINDS: dict[str, Callable[[Path, str], TarShard | ParquetShard]] = {".tar": TarShard, ".parquet": ParquetShard}
_OPEN = 32  # shards at once in a process; of those that are fetched as many as are shuffled together
Indexed = list[tuple[Record, Finding]]


class ShardReader:
    """Gives the bytes of a record of a shard, in whichever process it is asked."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self._open: OrderedDict[str, TarShard | ParquetShard] = OrderedDict()

    def opened(self, name: str) -> TarShard | ParquetShard:
        """A shard. Raises UserError for one that cannot be had, or is damaged."""
        if name not in self._open:
            make = _KINDS[Path(name).suffix.lower()]
            self._open[name] = self.shards.opened(name, lambda file: make(file, name))
            alike = [other for other in self._open if is_remote(other) == is_remote(name)]
            for oldest in alike[
                : -(WINDOW if is_remote(name) else _OPEN)
            ]:  # one removed for room goes when it is closed
                self._open.pop(oldest).close()
        self._open.move_to_end(name)
        return self._open[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __del__(self) -> None:
        for opened in self._open.values():
            opened.close()


def index(reader: ShardReader, names: Sequence[str], reading: Reading, draft: bool) -> dict[str, Indexed]:
    """What every shard holds, and one look at each image; remembered until a shard changes.

    Raises UserError for shards that cannot be had, or are damaged.
    """
    found: dict[str, Indexed] = {}
    how = f"{PIL.__version__}-{reading.ground.strip('#')}-{reading.max_megapixels:g}-{'draft' if draft else 'whole'}"
    with Bar(len(names), "shards", "index") as shown:
        for name in names:
            known = cache_dir() / "shard-index" / f"{reader.shards.identity(name)}-{how}.json"
            rows = _remembered(known)
            if rows is None:
                rows = _looked_at(reader, name, reading, draft)
                write_memory(known, [[list(astuple(record)), list(astuple(look))] for record, look in rows])
            found[name] = rows
            shown.advance(1)
    return found


def _looked_at(reader: ShardReader, name: str, reading: Reading, draft: bool) -> Indexed:
    shard = reader.opened(name)
    records = shard.records()

    def look(record: Record) -> Finding:
        try:
            whole = shard.read(record)
        except Exception as error:  # of a row that holds no image
            return Finding(f"{type(error).__name__}: {error}")
        return finding_of(whole, record.key, reading, DRAFT if draft else None)

    with ThreadPoolExecutor(machine.cores() if shard.anywhere else 1) as pool:
        return list(zip(records, pool.map(look, records), strict=True))


def _remembered(known: Path) -> Indexed | None:
    """What was found before; None for nothing, or for what is no such file."""
    rows = read_memory(known)
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 2 for row in rows):
        return None
    kinds = [type(value) for value in astuple(Record("", "", 0, 0, 0))]
    if not all(isinstance(r, list) and [type(v) for v in r] == kinds and is_finding(f) for r, f in rows):
        return None
    return [(Record(*record), Finding(*finding)) for record, finding in rows]
