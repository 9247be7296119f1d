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
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError
from tl_lightning.tasks.inferred import infer, joined
from tl_lightning.tasks.task import Labels, MakeTask, Task

log = logging.getLogger(__name__)

# Looked for, in this order and in any case, where no column is named.
TEXTS = ("text", "sentence", "content", "message", "review", "body", "sms", "tweet", "comment", "document")
LABELS = ("label", "class", "category", "target", "sentiment", "labels", "y")

Text = tuple[str, ...]  # one, or of pairs two


@dataclass(frozen=True)
class TextTable(Samples):
    """The texts of a file, each a tuple of one or, of pairs, two.

    `texts` by an item's path, which is the number of its row and a digest of what stands there.
    """

    texts: dict[str, Text] = field(default_factory=dict)
    noun = "texts"

    def sample(self, item: Item) -> Text:
        """Text or pair."""
        return self.texts[item.path]


@dataclass(frozen=True)
class Columns:
    """Which columns hold what.

    `text`: one, or two for pairs; None: one named like those in TEXTS, or the one beside the label. `label`: one, or
    several of values; None: one named like those in LABELS. `delimiter` of the file, `separator` between the classes
    of a text that may have several, or none. Raises UserError for more than two texts, or a column that is both.
    """

    text: str | Sequence[str] | None = None
    label: str | Sequence[str] | None = None
    delimiter: str | None = None
    separator: str | None = None

    def found(self, source: Any) -> tuple[list[Text], Labels]:
        """The texts of a file or DataFrame, and their labels. Raises UserError for one without such columns."""
        texts, labels = _names(self.text), _names(self.label)
        if len(texts) > 2:
            raise UserError(f"data.text={texts}: name one column, or two for pairs of texts")
        separator = table.NAMES.get(self.separator or "", self.separator) or ""
        named = [*texts, *labels]
        is_frame = table.is_frame(source)
        found = table.of_frame(source) if is_frame else table.read(Path(source), self.delimiter, named)
        path = found.path
        labels = labels or [_guess(found, LABELS, "label")]
        texts = texts or [_guess(found, TEXTS, "text", beside=labels[0])]
        log.info(f"columns   {' and '.join(texts)} for the text, {' and '.join(labels)} for the label")
        if both := [name for name in labels if name in texts]:
            raise UserError(f"data.label={both[0]} is data.text, too: name another column")
        if separator != "|" and (lists := [name for name in labels if name in found.lists]):
            raise UserError(
                f"data.label={lists[0]}: {path} holds lists there: data.separator=bar takes them as several classes"
            )
        cells = joined([found.column(name, "data.label") for name in labels])
        where = f"data.label={','.join(labels)}: {path}"
        read = list(zip(*(found.column(name, "data.text") for name in texts), strict=True))
        return read, Labels(tuple(cells), where, separator=separator, columns=tuple(labels))


def read(
    file: Any, task: MakeTask = infer, columns: Columns | None = None, division: SplitOptions | None = None
) -> TextTable:
    """Read, check and split a file (or a DataFrame) of texts.

    Validation (and test) texts are drawn, stratified; copies of a text stay in one split. Raises UserError for what
    cannot be trained on.
    """
    columns, division = columns or Columns(), division or SplitOptions()
    in_memory = table.is_frame(file)
    path = Path("DataFrame") if in_memory else Path(file).expanduser()
    texts, labels = columns.found(file if in_memory else path)
    made, cells = task(labels)
    items, by_path = _items(texts, cells, made)
    same = {name: _same(text) for name, text in by_path.items()}
    if division.splits:
        items = splits.read(Path(division.splits), exists=by_path.__contains__, among="data.file")
    else:
        usable = copies.divided([i for i in items if not i.skipped], same, made, division)
        items = sorted([*usable, *(i for i in items if i.skipped)], key=lambda i: int(_row(i)))
    items = division.limited(items, made)
    copies.report(items, same, "texts", lambda i: f"in row {_row(i)}", " (case and spaces aside)")
    used = [i.label for i in items if not i.skipped]
    found = TextTable(path, tuple(items), made.naming(used), by_path)
    found.refuse_unusable(labels.where)
    return found


def _names(said: str | Sequence[str] | None) -> list[str]:
    return [said] if isinstance(said, str) else list(said or [])


def _guess(found: table.Table, names: Sequence[str], what: str, beside: str | None = None) -> str:
    lower = {c.lower(): c for c in found.columns}
    for name in names:
        if name in lower and lower[name] != beside:
            return lower[name]
    others = [c for c in found.columns if c != beside]
    if beside and len(others) == 1:
        return others[0]
    raise UserError(f"which column is the {what}? data.{what}=...: {found.path} has {', '.join(found.columns)}")


def _items(texts: list[Text], labels: list[str], task: Task) -> tuple[list[Item], dict[str, Text]]:
    items, by_path = [], {}
    for row, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        digest = hashlib.blake2b("\0".join([*text, label]).encode("utf-8", "replace"), digest_size=4).hexdigest()
        path = f"{row}:{digest}"
        why = "no label" if not (label or task.may_lack) else "no text" if not all(t.strip() for t in text) else ""
        items.append(Item(path, label, "" if why else "train", why))
        by_path[path] = text
    for why, count in Counter(i.skipped for i in items if i.skipped).items():
        log.warning(f"skipped {count} of {len(items)} rows: {why}; splits.csv names them")
    return items, by_path


def _same(text: Text) -> Text:
    return tuple(" ".join(t.split()).casefold() for t in text)


def _row(item: Item) -> str:
    return item.path.partition(":")[0]
