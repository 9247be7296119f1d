"""Which columns of a table hold what: samples, their labels, and what is said of their splits, groups and weights."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tl_lightning.data import table
from tl_lightning.data.splits import split_of
from tl_lightning.data.table import Format, Table
from tl_lightning.errors import UserError
from tl_lightning.tasks.inferred import as_lists, joined
from tl_lightning.tasks.task import Labels

log = logging.getLogger(__name__)

# Looked for, in this order and in any case, where no column is named.
TEXTS = ("text", "sentence", "content", "message", "review", "body", "sms", "tweet", "comment", "document")
LABELS = ("label", "class", "category", "target", "sentiment", "labels", "y")
PARTS = ("split", "set", "partition", "subset", "part")
WEIGHTS = ("sample_weight",)  # "weight" alone may be that of a fish

Name = str | int | None
Names = str | int | Sequence[str] | None
Sample = tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """What stands in the rows of a table: samples, their labels and, where a column says them, more; else empty.

    `columns`: of the samples, `grouped_by`: of the groups.
    """

    samples: list[Sample]
    labels: Labels
    columns: tuple[str, ...]
    splits: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    grouped_by: str | None = None


@dataclass(frozen=True)
class Columns:
    """Which columns hold labels, and what is said of splits and weights; a subclass says which hold the samples.

    `label`: one, or several, of values or of 0 and 1; None: one named like those in LABELS, or the only one beside the
    samples. `split`: one that says train, val or test; `weight`: one of what a sample counts in training; None: one
    named like those in PARTS, in WEIGHTS, if there is one; "none": none. `separator` between the classes of a sample
    that may have several, or none. `missing`: labels that stand for none, in any case.
    """

    label: Names = None
    split: Name = None
    weight: Name = None
    separator: str | None = None
    missing: Sequence[str] = ("nan", "none", "null", "n/a", "na", "<na>", "nil")

    groups: ClassVar[Sequence[str]] = ()  # what a column of groups is called, where one is looked for
    key: ClassVar[str]  # the option that names the column of samples
    known: ClassVar[Sequence[str]]  # what such a column is called
    most: ClassVar[int] = 1  # columns that a sample stands in

    def named_samples(self) -> list[str]:
        """The columns of samples, if they are named."""
        raise NotImplementedError

    def wanted(self) -> list[str]:
        """The columns that are named. Raises UserError for more of them than a sample stands in."""
        if len(named := self.named_samples()) > self.most:
            raise UserError(f"data.{self.key}={','.join(named)}: name {_MOST[self.most]}")
        others = [str(c) for c in (self.split, self.weight) if c not in (None, "none")]
        return [*named, *as_names(self.label), *others]

    def found(self, table_: Table, group: str | None = None) -> Rows:
        """The rows of a table.

        `group`: the column of groups; None: one named like those in `groups`, if there is one; "none": none. Raises
        UserError for a table without such columns.
        """
        label = as_names(self.label)
        samples = self.named_samples() or [self._guess(table_, label)]
        label = label or [self._guess_label(table_, samples)]
        if both := [name for name in label if name in samples]:
            raise UserError(f"data.label={both[0]} is data.{self.key}, too: name another column")
        taken = [*samples, *label]
        optional = {
            "split": _optional(table_, self.split, PARTS, taken, _says_splits),
            "group": _optional(table_, group, self.groups, taken, _says_groups),
            "weight": _optional(table_, self.weight, WEIGHTS, taken, lambda cells: True),
        }
        said = "".join(f", {name} for the {what}" for what, name in optional.items() if name)
        log.info(f"columns   {' and '.join(samples)} for the {self.key}, {' and '.join(label)} for the label{said}")
        cells = {what: table_.column(name, f"data.{what}") for what, name in optional.items() if name}
        return Rows(
            list(zip(*(table_.column(name, f"data.{self.key}") for name in samples), strict=True)),
            self._labels(table_, label),
            tuple(samples),
            [_part(cell, table_.path) for cell in cells.get("split", [])],
            [cell.strip() for cell in cells.get("group", [])],
            [_weight(cell, row, table_.path) for row, cell in enumerate(cells.get("weight", []), 1)],
            optional["group"],
        )

    def _labels(self, table_: Table, names: Sequence[str]) -> Labels:
        columns = [table_.column(name, "data.label") for name in names]
        separator = table.NAMES.get(self.separator or "", self.separator) or ""
        if len(names) == 1 and (lists := as_lists(columns[0], names[0] in table_.lists)):
            log.info(f"labels    {names[0]} holds lists: each sample has several classes, or none")
            columns, separator = [lists], "|"
        cells = joined([self._present(column) for column in columns])
        where = f"data.label={','.join(names)}: {table_.path}"
        return Labels(tuple(cells), where, separator=separator, columns=tuple(names))

    def _present(self, column: Sequence[str]) -> list[str]:
        """A column of labels, empty where they stand for none; said how often which do."""
        none = {word.casefold() for word in self.missing}
        stand = {cell for cell in set(column) if cell.strip() and cell.strip().casefold() in none}
        counts = Counter(cell.strip() for cell in column if cell in stand)
        for word, count in counts.items():
            log.warning(f"{count} labels '{word}' stand for none, their rows are left out: data.missing=[] keeps them")
        return ["" if cell in stand else cell for cell in column]

    def _guess(self, table_: Table, label: Sequence[str]) -> str:
        """The column of samples: by its name, or the only one beside the label."""
        beside = label or [name for name in [named(table_.columns, LABELS)] if name]
        if name := named(table_.columns, self.known, beside):
            return name
        others = [c for c in table_.columns if c not in beside]
        if beside and len(others) == 1:
            return others[0]
        raise self._which(table_, self.key if beside else "label")

    def _guess_label(self, table_: Table, samples: Sequence[str]) -> str:
        if name := named(table_.columns, LABELS, samples):
            return name
        others = [c for c in table_.columns if c not in samples]
        if len(others) == 1:
            return others[0]
        raise self._which(table_, "label")

    def _which(self, table_: Table, key: str) -> UserError:
        shown = ", ".join(c[:40] for c in table_.columns[:20])
        header = ""
        if not named(table_.columns, (*self.known, *LABELS)):
            words = f"data.header=false data.{self.key}=1 data.label=0"
            header = f"; is its first line no line of names? Then say {words}"
        return UserError(f"which column is the {key}? data.{key}=...: {table_.path} has {shown}{header}")


_MOST = {1: "one column", 2: "one column, or two for pairs"}


def as_names(said: Names) -> list[str]:
    """Columns as texts: YAML reads a column that is called 0 as a number."""
    if said is None:
        return []
    return [str(said)] if isinstance(said, (str, int)) else [str(name) for name in said]


def named(columns: Sequence[str], names: Sequence[str], beside: Sequence[str] = ()) -> str | None:
    """The first of the columns that is called like one of the names, in any case, and is not taken yet."""
    lower = {c.lower(): c for c in columns if c not in beside}
    return next((lower[name] for name in names if name in lower), None)


def table_of(source: Any, written: Format, columns: Columns) -> Table:
    """The table of a file, of a folder with one for each split, or of a DataFrame. Raises UserError for no table."""
    if table.is_frame(source):
        return table.of_frame(source)
    path = Path(source).expanduser()
    if not path.is_dir():
        return table.read(path, written, columns.wanted())
    files = {f: split_of(f.stem) for f in sorted(path.iterdir()) if f.suffix.lower() in table.KINDS}
    by_split = {found[0]: f for f, found in files.items() if found}
    if "train" not in by_split or len(by_split) < sum(found is not None for found in files.values()):
        raise UserError(
            f"data.file={path} is a folder: it must hold one table for each split, like train.csv, validation.csv and "
            f"test.csv; it has {', '.join(f.name for f in files) or 'no tables'}"
        )
    tables = {split: table.read(f, written, columns.wanted()) for split, f in by_split.items()}
    log.info(f"splits    {', '.join(f'{split}: {f.name}' for split, f in by_split.items())}")
    head = tables["train"].columns
    for split, one in tables.items():
        if set(one.columns) != set(head) and (lacking := set(columns.wanted() or head) - set(one.columns)):
            raise UserError(f"{by_split[split]} has no column '{min(lacking)}', which {by_split['train'].name} has")
    return _joined(path, tables, head)


def _joined(path: Path, tables: dict[str, Table], head: Sequence[str]) -> Table:
    """The tables of several splits one after another, with a column that says which."""
    both = [c for c in head if all(c in one.columns for one in tables.values())]
    order = {split: [one.columns.index(c) for c in both] for split, one in tables.items()}
    rows = [[*(row[k] for k in order[split]), split] for split, one in tables.items() for row in one.rows]
    lists = frozenset().union(*(one.lists for one in tables.values()))
    return Table(path, (*both, "split"), rows, lists)


def _optional(table_: Table, said: Name, names: Sequence[str], taken: Sequence[str], fits: Any) -> str | None:
    """A column that need not be there: as it is `said`, or found by its name where its cells are of the kind."""
    if said is not None:
        return None if said == "none" else str(said)
    candidates = [c for c in table_.columns if c.lower() in names and c not in taken]
    fitting = [c for c in candidates if fits(table_.column(c, ""))]
    if candidates and not fitting:
        log.warning(f"column '{candidates[0]}' does not say what its name promises, and is passed over")
    return fitting[0] if fitting else None


def _says_splits(cells: Sequence[str]) -> bool:
    return all(split_of(cell) for cell in set(cells))


def _says_groups(cells: Sequence[str]) -> bool:
    """Whether some samples are of one group, and not all of them."""
    return 1 < len(set(cells)) < len(cells)


def _part(cell: str, path: Path) -> str:
    found = split_of(cell)
    if found is None:
        raise UserError(f"{path}: its column of splits holds '{cell[:40]}': say train, val or test, or data.split=none")
    return found[0]


def _weight(cell: str, row: int, path: Path) -> float:
    try:
        weight = float(cell)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise UserError(f"{path}: row {row} has the weight '{cell[:40]}': say a number from 0, or data.weight=none")
    return weight
