"""Rows of predictions while they are being made, and the files that come of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tl_lightning.errors import UserError
from tl_lightning.jobs.predict import Answered
from tl_lightning.printable import guarded

_AT_ONCE = 10_000  # rows of Parquet


@dataclass(frozen=True)
class Kept:
    """A file of JSON lines, a row each, that survives a kill; features beside it."""

    path: Path

    @property
    def features_file(self) -> Path:
        """(N, D) float32, a row for a row."""
        return self.path.with_name(f"{self.path.name}.npy")

    def whole_rows(self) -> int:
        """How many rows there are; what a kill has left of a last one is cut off."""
        if not self.path.exists():
            return 0
        with self.path.open("rb+") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            file.seek(0)
            return sum(1 for _ in file)

    def rows(self, order: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
        """All rows, or those at these places."""
        with self.path.open(encoding="utf-8") as file:
            lines: Iterator[str] | list[str] = file
            if order is not None:
                every = list(file)
                lines = [every[place] for place in order]
            for line in lines:
                yield json.loads(line)

    def keep_features(self, found: Answered, done: int, number: int) -> None:
        """Features (N, D) of a batch that follows so many rows of `number`; NaN for what could not be read."""
        if found.features is None:
            return
        if self.features_file.exists():
            features = np.lib.format.open_memmap(self.features_file, "r+")
        else:
            shape = (number, found.features.shape[1])
            features = np.lib.format.open_memmap(self.features_file, "w+", np.float32, shape)
            features[:] = np.nan
        features[[done + place for place in found.batch.places]] = found.features

    def move_features(self, out: Path, order: Sequence[int] | None) -> None:
        """Put the features in their place, in this order."""
        if order is not None:
            features = np.load(self.features_file)[list(order)]
            with self.features_file.open("wb") as file:
                np.save(file, features)
        self.features_file.replace(out)

    def columns(self) -> list[str]:
        """All columns, the error last."""
        found: dict[str, None] = {}
        for row in self.rows():
            found |= dict.fromkeys(row)
            if not row["error"]:
                break
        return [*(name for name in found if name != "error"), "error"]

    def remove(self) -> None:
        """Leave nothing behind."""
        self.path.unlink()
        self.features_file.unlink(missing_ok=True)


def _csv(kept: Kept, out: Path, order: Sequence[int] | None) -> None:
    columns = kept.columns()
    with out.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(map(guarded, columns))
        for row in kept.rows(order):
            cells = [row.get(column, "") for column in columns]
            writer.writerow(guarded(cell) if isinstance(cell, str) else cell for cell in cells)


def _jsonl(kept: Kept, out: Path, order: Sequence[int] | None) -> None:
    columns = kept.columns()
    with out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({c: row.get(c) for c in columns}) + "\n" for row in kept.rows(order))


def _parquet(kept: Kept, out: Path, order: Sequence[int] | None) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError("a .parquet file needs pyarrow: pip install pyarrow, or name a .csv") from error
    first = next(row for row in kept.rows() if not row["error"])
    kinds = {bool: pa.bool_(), float: pa.float64(), str: pa.string()}
    schema = pa.schema([(c, kinds[type(first[c])]) for c in kept.columns()])
    with pq.ParquetWriter(out, schema) as writer:
        waiting: list[dict[str, Any]] = []
        for row in kept.rows(order):
            waiting.append(row)
            if len(waiting) == _AT_ONCE:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting = []
        writer.write_table(pa.Table.from_pylist(waiting, schema))


WRITERS: dict[str, Callable[[Kept, Path, Sequence[int] | None], None]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
