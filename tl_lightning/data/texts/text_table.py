"""A file of labelled texts: what is in it, and whether it can be trained on."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tl_lightning.data import copies, splits, table
from tl_lightning.data.columns import TEXTS, Columns, Names, Rows, Sample, as_names, table_of
from tl_lightning.data.samples import Item, Samples
from tl_lightning.data.splits import SplitOptions
from tl_lightning.tasks.inferred import infer
from tl_lightning.tasks.task import MakeTask, Task

log = logging.getLogger(__name__)

_BEGINNING = 200  # characters of a text that is shown


@dataclass(frozen=True)
class TextTable(Samples):
    """The texts of a file, each a tuple of one or, of pairs, two.

    `texts` by an item's path, which is the number of its row and a digest of what stands there.
    """

    texts: dict[str, Sample] = field(default_factory=dict)
    table: table.Table | None = None
    noun = "texts"

    def lies_at(self) -> dict[str, Path]:
        """The table."""
        return {"file": self.root}

    def described(self, item: Item) -> str:
        """Its row, and how its text begins."""
        text = " | ".join(self.sample(item))
        return f"{item.path} {text[:_BEGINNING]}{'...' if len(text) > _BEGINNING else ''}"

    def words(self, items: Sequence[Item]) -> list[str]:
        """What separates the parts of lists, where the table had some."""
        assert self.table is not None
        return ["data.separator=bar"] if self.table.lists else []

    def rows(self, items: Sequence[Item], beside: Path) -> list[list[str]]:
        """The rows that the table has of these texts."""
        assert self.table is not None
        return [list(self.table.columns), *(self.table.rows[int(_row(item)) - 1] for item in items)]

    def sample(self, item: Item) -> Sample:
        """Text or pair."""
        return self.texts[item.path]

    def groups(self, split: str, pattern: str) -> list[str]:
        """The group of each usable text of a split: what stands in a column of the table.

        Raises UserError for a column that there is not.
        """
        assert self.table is not None
        cells = self.table.column(pattern, "group")
        return [cells[int(_row(item)) - 1] for item in self.used(split)]


@dataclass(frozen=True)
class TextColumns(Columns):
    """`text`: one column, or two for pairs; None: one named like those in TEXTS, or the one beside the label."""

    text: Names = None

    key: ClassVar[str] = "text"
    known: ClassVar[Sequence[str]] = TEXTS
    most: ClassVar[int] = 2

    def named_samples(self) -> list[str]:
        """The columns of texts, if they are named."""
        return as_names(self.text)


def read(
    file: Any,
    task: MakeTask = infer,
    columns: TextColumns | None = None,
    division: SplitOptions | None = None,
    written: table.Format | None = None,
) -> TextTable:
    """Read, check and split a file (a folder of train, val and test files, a DataFrame) of texts.

    Validation (and test) texts are drawn, stratified; copies of a text stay in one split. Raises UserError for what
    cannot be trained on.
    """
    columns, division, written = columns or TextColumns(), division or SplitOptions(), written or table.Format()
    whole = table_of(file, written, columns)
    rows = columns.found(whole, division.group)
    made, cells = task(rows.labels)
    items, by_path = items_of(rows, cells, made)
    same = {name: _same(text) for name, text in by_path.items()}
    if division.splits:
        items = splits.read(Path(division.splits), exists=by_path.__contains__, among="data.file")
    else:
        usable = [i for i in items if not i.skipped]
        given = {i.split for i in usable} if rows.splits else set()
        groups = dict(zip(by_path, rows.groups, strict=True)) if rows.groups else None
        usable = copies.divided(usable, same, made, division, given, groups)
        items = sorted([*usable, *(i for i in items if i.skipped)], key=lambda i: int(_row(i)))
    items = division.limited(items, made)
    several = copies.report(
        items, same, "texts", lambda i: f"in row {_row(i)}", " (case and spaces aside)", division.doctor
    )
    used = [i.label for i in items if not i.skipped]
    weights = dict(zip(by_path, rows.weights, strict=True)) if rows.weights else {}
    found = TextTable(whole.path, tuple(items), made.naming(used), weights, several, rows.grouped_by, by_path, whole)
    found.refuse_unusable(rows.labels.where)
    return found


def items_of(rows: Rows, labels: list[str], task: Task) -> tuple[list[Item], dict[str, Sample]]:
    """Items, those without text or label set aside, and the texts by their paths."""
    items, by_path = [], {}
    parts = rows.splits or ["train"] * len(labels)
    for row, (text, label, part) in enumerate(zip(rows.samples, labels, parts, strict=True), 1):
        digest = hashlib.blake2b("\0".join([*text, label]).encode("utf-8", "replace"), digest_size=4).hexdigest()
        path = f"{row}:{digest}"
        why = "no label" if not (label or task.may_lack) else "no text" if not all(t.strip() for t in text) else ""
        items.append(Item(path, label, "" if why else part, why))
        by_path[path] = text
    for why, count in Counter(i.skipped for i in items if i.skipped).items():
        log.warning(f"skipped {count} of {len(items)} rows: {why}; splits.csv names them")
    return items, by_path


def _same(text: Sample) -> Sample:
    return tuple(" ".join(t.split()).casefold() for t in text)


def _row(item: Item) -> str:
    return item.path.partition(":")[0]
