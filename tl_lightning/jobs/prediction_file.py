"""Predictions in a file: CSV, JSON lines or Parquet; a row for every source, also for those that cannot be read."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from tl_lightning.bar import Bar
from tl_lightning.errors import UserError
from tl_lightning.files import atomically
from tl_lightning.jobs.predict import answered, sources
from tl_lightning.printable import guarded
from tl_lightning.runs.model import Model

KINDS = (".csv", ".jsonl", ".parquet")
_ROWS = 10_000  # of Parquet at once
_FIRST = 20  # rows that are shown


@dataclass(frozen=True)
class Written:
    """What became of so many sources: the file, the first rows of it, how many hold an error, and how many a second."""

    path: Path
    rows: int
    first: Sequence[Mapping[str, Any]]
    errors: int
    pace: float

    def __str__(self) -> str:
        lines = [
            "\t".join(_shown(value) for key, value in row.items() if key != "error" or value) for row in self.first
        ]
        more = [f"... and {self.rows - len(lines)} more"] if self.rows > len(lines) else []
        unread = f", {self.errors} could not be read" if self.errors else ""
        return "\n".join([*lines, *more, f"{self.path}: {self.rows} rows{unread}, {self.pace:.0f} a second"])


def write_predictions(
    model: Model, weights: Path, source: Any, out: Path, *, top: int, column: str | None = None, engine: str = "auto"
) -> Written:
    """Answer everything in `source`, row by row, in the order of its names, and put the file in its place at the end.

    Rows are kept beside `out` while it is being made; the same call goes on after the last of them. `weights`: the
    model's file, whose rows are no other's. `top`: classes in a row. Raises UserError for a kind of file that there is
    not, for sources of another kind, and where nothing can be read.
    """
    if out.suffix.lower() not in KINDS:
        raise UserError(f"out={out}: the name must end in {', '.join(KINDS)}")
    named = sources(model, source, column)
    facts = [sha256(weights.read_bytes()).hexdigest(), top, repr(model.calibration), [name for name, _ in named]]
    job = sha256(json.dumps(facts).encode("utf-8", "surrogateescape")).hexdigest()
    kept = out.with_name(f"{out.name}.{job[:16]}.rows")
    out.parent.mkdir(parents=True, exist_ok=True)
    done, began = _whole_lines(kept), time.monotonic()
    noun = model.backbone.input.noun
    with kept.open("a", encoding="utf-8") as file, Bar(len(named), noun, "predict", sys.stdout.isatty()) as shown:
        shown.advance(done)
        for rows in _rows(model, named, done, top, engine):
            file.writelines(json.dumps(row) + "\n" for row in rows)
            file.flush()
            shown.advance(len(rows))
    pace = (len(named) - done) / max(time.monotonic() - began, 1e-9)
    errors = sum(bool(row["error"]) for row in _read(kept))
    if errors == len(named):
        said = next(_read(kept))["error"]
        kept.unlink()
        raise UserError(said)
    atomically(out, lambda draft: _WRITERS[out.suffix.lower()](kept, draft, _columns(kept)))
    first = list(islice(_read(kept), _FIRST))
    kept.unlink()
    return Written(out, len(named), first, errors, pace)


def _rows(
    model: Model, named: Sequence[tuple[str, Any]], done: int, top: int, engine: str
) -> Iterator[list[dict[str, Any]]]:
    """Rows of every batch, in order, from the first that is not done."""
    noun = model.backbone.input.noun.removesuffix("s")
    for batch, found in answered(model, [sample for _, sample in named[done:]], engine):
        rows = {place: {"error": said} for place, said in batch.errors.items()}
        if found is not None:
            answers = model.task.rows(found, model.calibration.thresholds, top)
            rows |= {p: {**row, "error": ""} for p, row in zip(batch.places, answers, strict=True)}
        yield [{noun: named[done + place][0], **rows[place]} for place in sorted(rows)]


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value) or "-"


def _whole_lines(path: Path) -> int:
    """How many rows a file holds; what a kill has left of a last one is cut off."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.seek(0)
        return sum(1 for _ in file)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _columns(path: Path) -> list[str]:
    """All columns, the error last."""
    found: dict[str, None] = {}
    for row in _read(path):
        found |= dict.fromkeys(row)
        if not row["error"]:
            break
    return [*(name for name in found if name != "error"), "error"]


def _csv(rows: Path, out: Path, columns: Sequence[str]) -> None:
    with out.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(map(guarded, columns))
        for row in _read(rows):
            cells = [row.get(column, "") for column in columns]
            writer.writerow(guarded(cell) if isinstance(cell, str) else cell for cell in cells)


def _jsonl(rows: Path, out: Path, columns: Sequence[str]) -> None:
    with out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({c: row.get(c) for c in columns}) + "\n" for row in _read(rows))


def _parquet(rows: Path, out: Path, columns: Sequence[str]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError("a .parquet file needs pyarrow: pip install pyarrow, or name a .csv") from error
    first = next(row for row in _read(rows) if not row["error"])
    kinds = {c: pa.float64() if isinstance(first.get(c), float) else pa.string() for c in columns}
    schema = pa.schema(list(kinds.items()))
    with pq.ParquetWriter(out, schema) as writer:
        waiting: list[dict[str, Any]] = []
        for row in _read(rows):
            waiting.append({c: row.get(c) for c in columns})
            if len(waiting) == _ROWS:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting = []
        writer.write_table(pa.Table.from_pylist(waiting, schema))


_WRITERS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
