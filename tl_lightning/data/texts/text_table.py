"""A file of labelled texts: what is in it, and whether it can be trained on."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tl_lightning.data import copies, splits, table
from tl_lightning.data.samples import Item, Samples
from tl_lightning.data.splits import SplitOptions, split_of
from tl_lightning.errors import UserError
from tl_lightning.tasks.inferred import as_lists, infer, joined
from tl_lightning.tasks.task import Labels, MakeTask, Task

log = logging.getLogger(__name__)

# Looked for, in this order and in any case, where no column is named.
TEXTS = ("text", "sentence", "content", "message", "review", "body", "sms", "tweet", "comment", "document")
_BEGINNING = 200  # characters of a text that is shown
PARTS = ("split", "set", "partition", "subset", "part")
LABELS = ("label", "class", "category", "target", "sentiment", "labels", "y")

Text = tuple[str, ...]  # one, or of pairs two


@dataclass(frozen=True)
class TextTable(Samples):
    """The texts of a file, each a tuple of one or, of pairs, two.

    `texts` by an item's path, which is the number of its row and a digest of what stands there.
    """

    texts: dict[str, Text] = field(default_factory=dict)
    table: table.Table | None = None
    noun = "texts"

    def described(self, item: Item) -> str:
        """Its row, and how its text begins."""
        text = " | ".join(self.sample(item))
        return f"{item.path} {text[:_BEGINNING]}{'...' if len(text) > _BEGINNING else ''}"

    def sample(self, item: Item) -> Text:
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
class Columns:
    """Which columns hold what.

    `text`: one, or two for pairs; None: one named like those in TEXTS, or the one beside the label. `label`: one, or
    several, of values or of 0 and 1; None: one named like those in LABELS. `split`: one that says train, val or test;
    None: one named like those in PARTS, if there is one; "none": none. `separator` between the classes of a text that
    may have several, or none. `missing`: labels that stand for none, in any case. Raises UserError for more than two
    texts, or a column that is both.
    """

    text: str | int | Sequence[str] | None = None
    label: str | int | Sequence[str] | None = None
    split: str | int | None = None
    separator: str | None = None
    missing: Sequence[str] = ("nan", "none", "null", "n/a", "na", "<na>", "nil")

    def found(self, table_: table.Table) -> Rows:
        """The texts of a table, their labels and splits. Raises UserError for one without such columns."""
        texts, labels = _names(self.text), _names(self.label)
        path = table_.path
        labels = labels or [_guess(table_, LABELS, "label")]
        texts = texts or [_guess(table_, TEXTS, "text", beside=labels[0])]
        parts = self._parts(table_, [*texts, *labels])
        said = "" if parts is None else f", {parts} for the split"
        log.info(f"columns   {' and '.join(texts)} for the text, {' and '.join(labels)} for the label{said}")
        if both := [name for name in labels if name in texts]:
            raise UserError(f"data.label={both[0]} is data.text, too: name another column")
        columns = [table_.column(name, "data.label") for name in labels]
        separator = table.NAMES.get(self.separator or "", self.separator) or ""
        if len(labels) == 1 and (lists := as_lists(columns[0], labels[0] in table_.lists)):
            log.info(f"labels    {labels[0]} holds lists: each text has several classes, or none")
            columns, separator = [lists], "|"
        cells = joined([self._present(column) for column in columns])
        return Rows(
            list(zip(*(table_.column(name, "data.text") for name in texts), strict=True)),
            Labels(tuple(cells), f"data.label={','.join(labels)}: {path}", separator=separator, columns=tuple(labels)),
            [_part(cell, path) for cell in table_.column(parts, "data.split")] if parts is not None else [],
        )

    def wanted(self) -> list[str]:
        """The columns that are named. Raises UserError for more than two texts."""
        if len(_names(self.text)) > 2:
            raise UserError(f"data.text={self.text}: name one column, or two for pairs of texts")
        split = [] if self.split in (None, "none") else _names(self.split)
        return [*_names(self.text), *_names(self.label), *split]

    def _parts(self, table_: table.Table, taken: Sequence[str]) -> str | None:
        """The column of splits, if there is one."""
        if self.split is not None:
            return None if self.split == "none" else str(self.split)
        named = [c for c in table_.columns if c.lower() in PARTS and c not in taken]
        fits = [c for c in named if all(split_of(cell) for cell in set(table_.column(c, "data.split")))]
        if named and not fits:
            log.warning(f"column '{named[0]}' says no splits (train, val, test), and is passed over")
        return fits[0] if fits else None

    def _present(self, column: Sequence[str]) -> list[str]:
        """A column of labels, empty where they stand for none; said how often which do."""
        none = {word.casefold() for word in self.missing}
        stand = {cell for cell in set(column) if cell.strip() and cell.strip().casefold() in none}
        counts = Counter(cell.strip() for cell in column if cell in stand)
        for word, count in counts.items():
            log.warning(f"{count} labels '{word}' stand for none, their rows are left out: data.missing=[] keeps them")
        return ["" if cell in stand else cell for cell in column]


@dataclass(frozen=True)
class Rows:
    """Texts, their labels, and their splits if a column or the files say them."""

    texts: list[Text]
    labels: Labels
    splits: list[str]


def read(
    file: Any,
    task: MakeTask = infer,
    columns: Columns | None = None,
    division: SplitOptions | None = None,
    written: table.Format | None = None,
) -> TextTable:
    """Read, check and split a file (a folder of train, val and test files, a DataFrame) of texts.

    Validation (and test) texts are drawn, stratified; copies of a text stay in one split. Raises UserError for what
    cannot be trained on.
    """
    columns, division, written = columns or Columns(), division or SplitOptions(), written or table.Format()
    in_memory = table.is_frame(file)
    path = Path("DataFrame") if in_memory else Path(file).expanduser()
    whole = table.of_frame(file) if in_memory else _of_files(path, written, columns)
    rows = columns.found(whole)
    made, cells = task(rows.labels)
    items, by_path = items_of(rows, cells, made)
    same = {name: _same(text) for name, text in by_path.items()}
    if division.splits:
        items = splits.read(Path(division.splits), exists=by_path.__contains__, among="data.file")
    else:
        usable = [i for i in items if not i.skipped]
        given = {i.split for i in usable} if rows.splits else set()
        groups = None
        if division.group:
            cells = whole.column(division.group, "data.group")
            groups = {i.path: cells[int(_row(i)) - 1] for i in usable}
        usable = copies.divided(usable, same, made, division, given, groups)
        items = sorted([*usable, *(i for i in items if i.skipped)], key=lambda i: int(_row(i)))
    items = division.limited(items, made)
    copies.report(items, same, "texts", lambda i: f"in row {_row(i)}", " (case and spaces aside)")
    used = [i.label for i in items if not i.skipped]
    found = TextTable(path, tuple(items), made.naming(used), by_path, whole)
    found.refuse_unusable(rows.labels.where)
    return found


def _of_files(path: Path, written: table.Format, columns: Columns) -> table.Table:
    """The table of a file, or of the files of a folder that are named for their splits, one after another."""
    if not path.is_dir():
        return table.read(path, written, columns.wanted())
    named = {f: split_of(f.stem) for f in sorted(path.iterdir()) if f.suffix.lower() in table.KINDS}
    files = {found[0]: f for f, found in named.items() if found}
    if "train" not in files or len(files) < sum(found is not None for found in named.values()):
        raise UserError(
            f"data.file={path} is a folder: it must hold one table for each split, like train.csv, validation.csv and "
            f"test.csv; it has {', '.join(f.name for f in named) or 'no tables'}"
        )
    tables = {split: table.read(f, written, columns.wanted()) for split, f in files.items()}
    log.info(f"splits    {', '.join(f'{split}: {f.name}' for split, f in files.items())}")
    head = tables["train"].columns
    for split, one in tables.items():
        if set(one.columns) != set(head) and (lacking := set(columns.wanted() or head) - set(one.columns)):
            raise UserError(f"{files[split]} has no column '{min(lacking)}', which {files['train'].name} has")
    both = [c for c in head if all(c in one.columns for one in tables.values())]
    order = {split: [one.columns.index(c) for c in both] for split, one in tables.items()}
    rows = [[*(row[k] for k in order[split]), split] for split, one in tables.items() for row in one.rows]
    lists = frozenset().union(*(one.lists for one in tables.values()))
    return table.Table(path, (*(c for c in both), "split"), rows, lists)


def _names(said: str | int | Sequence[str] | None) -> list[str]:
    """Columns as texts: YAML reads a column that is called 0 as a number."""
    if said is None:
        return []
    return [str(said)] if isinstance(said, (str, int)) else [str(name) for name in said]


def _part(cell: str, path: Path) -> str:
    found = split_of(cell)
    if found is None:
        raise UserError(f"{path}: its column of splits holds '{cell[:40]}': say train, val or test, or data.split=none")
    return found[0]


def _guess(found: table.Table, names: Sequence[str], what: str, beside: str | None = None) -> str:
    lower = {c.lower(): c for c in found.columns}
    for name in names:
        if name in lower and lower[name] != beside:
            return lower[name]
    others = [c for c in found.columns if c != beside]
    if beside and len(others) == 1:
        return others[0]
    shown = ", ".join(c[:40] for c in found.columns[:20])
    header = ""
    if not any(c.lower() in (*TEXTS, *LABELS) for c in found.columns):
        header = "; is its first line no line of names? Then say data.header=false data.text=1 data.label=0"
    raise UserError(f"which column is the {what}? data.{what}=...: {found.path} has {shown}{header}")


def items_of(rows: Rows, labels: list[str], task: Task) -> tuple[list[Item], dict[str, Text]]:
    """Items, those without text or label set aside, and the texts by their paths."""
    items, by_path = [], {}
    parts = rows.splits or ["train"] * len(labels)
    for row, (text, label, part) in enumerate(zip(rows.texts, labels, parts, strict=True), 1):
        digest = hashlib.blake2b("\0".join([*text, label]).encode("utf-8", "replace"), digest_size=4).hexdigest()
        path = f"{row}:{digest}"
        why = "no label" if not (label or task.may_lack) else "no text" if not all(t.strip() for t in text) else ""
        items.append(Item(path, label, "" if why else part, why))
        by_path[path] = text
    for why, count in Counter(i.skipped for i in items if i.skipped).items():
        log.warning(f"skipped {count} of {len(items)} rows: {why}; splits.csv names them")
    return items, by_path


def _same(text: Text) -> Text:
    return tuple(" ".join(t.split()).casefold() for t in text)


def _row(item: Item) -> str:
    return item.path.partition(":")[0]
