"""Tables of text as they come: CSV, TSV, JSON lines, Parquet."""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl_lightning import checks
from tl_lightning.data.characters import text_of
from tl_lightning.errors import UserError, nearest
from tl_lightning.printable import unguarded

log = logging.getLogger(__name__)

KINDS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet")
NAMES = {"comma": ",", "tab": "\t", "semicolon": ";", "bar": "|"}  # what shells and Hydra take for their own
_DELIMITERS = tuple(NAMES.values())
_LONGEST = 2**24  # characters of a cell: beyond that a quotation mark does not pair
csv.field_size_limit(_LONGEST)  # the default refuses a text of 128 KB


@dataclass(frozen=True)
class Format:
    """How a table's file is written.

    `delimiter` None: found; of .tsv a tab. `encoding` None: UTF-8, UTF-16 with its mark, or Windows-1252 where that
    makes words. `header` False: the first line holds no names, and columns are called 0, 1, ...
    """

    delimiter: str | None = None
    encoding: str | None = None
    header: bool = True

    def __post_init__(self) -> None:
        checks.boolean("data.header", self.header)
        if self.encoding is not None:
            try:
                codecs.lookup(str(self.encoding))
            except LookupError as error:
                raise UserError(
                    f"data.encoding={self.encoding} is unknown: say utf-8, gbk, shift_jis, cp1251, ..."
                ) from error


@dataclass(frozen=True)
class Table:
    """Rows of cells under named columns; every cell is a string, empty where there is nothing.

    `lists`: columns in which some cells were lists, whose parts are joined by a bar.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]]
    lists: frozenset[str] = frozenset()

    def column(self, name: str, key: str) -> list[str]:
        """A column's cells; UserError that names the columns there are. `key`: the option that named it."""
        if name not in self.columns:
            raise UserError(f"{key}={name}: {self.path} has no such column: {nearest(name, self.columns)}")
        index = self.columns.index(name)
        return [row[index] for row in self.rows]


def of_frame(frame: Any) -> Table:
    """The table that a pandas.DataFrame holds. Raises UserError for one without rows, or with two equal columns."""
    columns, cells = tuple(map(str, frame.columns)), frame.astype(object).where(frame.notna(), None)
    rows = [list(row) for row in cells.itertuples(index=False, name=None)]
    lists = frozenset(c for i, c in enumerate(columns) if any(isinstance(row[i], list) for row in rows))
    table = Table(Path("DataFrame"), columns, [[_cell(value) for value in row] for row in rows], lists)
    _refuse(table, "the DataFrame")
    return table


def is_frame(source: Any) -> bool:
    """Whether it is a pandas.DataFrame, or one that has the same methods; pandas need not be installed."""
    return all(hasattr(source, name) for name in ("columns", "itertuples", "notna"))


def _refuse(table: Table, what: str) -> None:
    """Raise UserError for a table without rows, or with two columns of one name."""
    if not table.rows:
        raise UserError(f"{what} has a first line and nothing below it")
    if doubled := [c for i, c in enumerate(table.columns) if c in table.columns[:i]]:
        raise UserError(f"{what} has two columns '{doubled[0]}': rename one")


def read(path: Path, written: Format | None = None, wanted: Sequence[str] = ()) -> Table:
    """A file's table; a delimiter that is not known is that which gives the `wanted` columns.

    UserError for a file that is no table.
    """
    written = written or Format()
    if not path.is_file():
        raise UserError(f"data.file={path} does not exist or is no file")
    if path.suffix.lower() not in KINDS:
        raise UserError(f"data.file={path}: use one of {', '.join(KINDS)}")
    if path.stat().st_size == 0:
        raise UserError(f"data.file={path} is empty")
    if path.suffix.lower() == ".parquet":
        table = _parquet(path)
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        table = _json_lines(path, written)
    else:
        table = _separated(path, written, wanted)
    _refuse(table, f"data.file={path}")
    return table


def _separated(path: Path, written: Format, wanted: Sequence[str]) -> Table:
    text = text_of(path, written.encoding)
    delimiter = written.delimiter or ("\t" if path.suffix.lower() == ".tsv" else None)
    if told := re.match(r"sep=(.)\n", text):  # a line for Excel alone
        text, delimiter = text[told.end() :], written.delimiter or told[1]
    first, delimiter = text.partition("\n")[0], NAMES.get(delimiter or "", delimiter)
    if delimiter is None:
        heads = {d: next(csv.reader([first], delimiter=d), []) for d in _DELIMITERS}
        fitting = [d for d in _DELIMITERS if wanted and set(wanted) <= set(heads[d])]
        delimiter = (fitting or sorted(_DELIMITERS, key=lambda d: -len(heads[d])))[0]
    elif len(delimiter) != 1:
        raise UserError(f"data.delimiter={delimiter} must be one character, or {', '.join(NAMES)}")
    rows = _records(text, delimiter, path)
    if not rows:
        raise UserError(f"data.file={path} is empty")
    width = max((i for i, c in enumerate(rows[0], 1) if c.strip()), default=0)  # spreadsheets add empty columns
    if not any(cell.strip() for row in rows for cell in row[width:]):
        rows = [row[:width] if len(row) > width else row for row in rows]
    if written.header and (unnamed := _numbers(wanted, rows[0])):
        log.info(f"columns   {path.name} is read without a line of names, as column {unnamed} is a number")
    named = written.header and not unnamed
    columns = tuple(c.strip() for c in rows[0]) if named else tuple(map(str, range(len(rows[0]))))
    _refuse_columns(path, columns, wanted, first, delimiter)
    body = [list(map(unguarded, row)) for row in (rows[1:] if named else rows)]  # as `guarded` cells were
    if wrong := [i for i, row in enumerate(body, 1) if len(row) != len(columns)]:
        raise UserError(
            f"data.file={path}: row {wrong[0]} below the first line has {len(body[wrong[0] - 1])} cells, that line has "
            f"{len(columns)} ({', '.join(columns[:5])}): is data.delimiter={_called(delimiter)} right?"
        )
    return Table(path, columns, body)


def _numbers(wanted: Sequence[str], head: Sequence[str]) -> str:
    """A wanted column that is no name of the first line, but the number of a column; empty if there is none."""
    names = [c.strip() for c in head]
    return next((w for w in wanted if w not in names and w.isdecimal() and int(w) < len(names)), "")


def _refuse_columns(path: Path, columns: Sequence[str], wanted: Sequence[str], first: str, delimiter: str) -> None:
    """Raise UserError for a wanted column that there is not."""
    if missing := [w for w in wanted if w not in columns]:
        better = next((d for d in _DELIMITERS if d != delimiter and set(wanted) <= set(first.split(d))), None)
        hint = f"; with data.delimiter={_called(better)} there is one" if better else ""
        raise UserError(f"data.file={path} has no column '{missing[0]}': {nearest(missing[0], columns)}{hint}")


def _records(text: str, delimiter: str, path: Path) -> list[list[str]]:
    """Cells of every record. Quotation marks that do not pair, in lines that are whole without them, are letters."""
    plain = [line.split(delimiter) for line in text.split("\n") if line]
    whole = len({len(line) for line in plain}) == 1
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
        if not (whole and delimiter == "\t" and len(rows) < len(plain)):  # no tab would be inside of so long a cell
            return rows
    except csv.Error:
        pass
    if whole:
        return plain
    rows, begun, reader = [], 1, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if reader.line_num > begun:  # who knows how far the text goes on
                raise _unpaired(path, begun)
            rows += [row] if row else []
            begun = reader.line_num + 1
    except csv.Error as error:
        raise _unpaired(path, begun) from error
    log.warning(f"{path}: quotation marks do not pair in some lines, which are read as they are")
    return rows


def _unpaired(path: Path, line: int) -> UserError:
    return UserError(
        f"data.file={path}: quotation marks do not pair, in line {line} or before: inside of quotation marks write "
        'them twice ("")'
    )


def _called(delimiter: str) -> str:
    """How a delimiter is written on a command line."""
    return next((name for name, mark in NAMES.items() if mark == delimiter), delimiter)


def _json_lines(path: Path, written: Format) -> Table:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(text_of(path, written.encoding).split("\n"), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(f"data.file={path}: line {number} is no JSON ({error})") from error
            if not isinstance(record, dict):
                raise UserError(f"data.file={path}: line {number} is no JSON object")
            records.append(record)
    columns = tuple(dict.fromkeys(key for record in records for key in record))
    lists = frozenset(c for c in columns if any(isinstance(r.get(c), list) for r in records))
    return Table(path, columns, [[_cell(record.get(c)) for c in columns] for record in records], lists)


def _parquet(path: Path) -> Table:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(f"data.file={path}: Parquet needs pyarrow: pip install pyarrow, or save it as CSV") from error
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise UserError(f"data.file={path} cannot be read: {error}") from error
    columns, names = [c.to_pylist() for c in table.columns], tuple(table.column_names)
    lists = frozenset(n for n, c in zip(names, columns, strict=True) if any(isinstance(v, list) for v in c))
    return Table(path, names, [[_cell(v) for v in row] for row in zip(*columns, strict=True)], lists)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(map(_cell, value))
    whole = "" if value is None or value != value else str(value).replace("\0", "")
    return whole.encode("utf-8", "replace").decode()  # half of a surrogate pair is no character
