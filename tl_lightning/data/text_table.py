"""A file of labelled texts: what is in it, and whether it can be trained on."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tl_lightning.data import splits, table
from tl_lightning.data.labelled import Collection, several
from tl_lightning.data.splits import Item
from tl_lightning.errors import UserError

log = logging.getLogger(__name__)

# Looked for, in this order and in any case, where no column is named.
TEXTS = ("text", "sentence", "content", "message", "review", "body", "sms", "tweet", "comment", "document")
LABELS = ("label", "class", "category", "target", "sentiment", "labels", "y")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_OFTEN = 10  # texts of the same set of classes, from which on they are drawn by themselves


@dataclass(frozen=True)
class TextTable(Collection):
    """The texts of a file, each a tuple of one or, of pairs, two.

    `texts` by an item's path, which is the number of its row and a digest of what stands there.
    """

    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    noun = "texts"

    def sample(self, item: Item) -> tuple[str, ...]:
        """Text or pair."""
        return self.texts[item.path]


def read(
    file: str,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    *,
    delimiter: str | None = None,
    separator: str | None = None,
    val_fraction: float = 0.2,
    test_fraction: float = 0.0,
    max_per_class: int | None = None,
    seed: int = 0,
    splits_file: str | None = None,
) -> TextTable:
    """Read, check and split a file of texts.

    `text`: a column, or two for pairs; None: one named like those in TEXTS, or the one beside the label. `label`: a
    column; None: one named like those in LABELS. `separator`: between the classes of a text that may have several, or
    none; `max_per_class` then goes by the whole set. Validation (and test) texts are drawn, stratified; copies of a
    text stay in one split. `splits_file` repeats an earlier run's split. UserError for what cannot be trained on.
    """
    splits.check_fractions(val_fraction, test_fraction, max_per_class, "texts")
    path = Path(file).expanduser()
    named = [text] if isinstance(text, str) else list(text or [])
    if len(named) > 2:
        raise UserError(f"data.text={named}: name one column, or two for pairs of texts")
    separator = table.NAMES.get(separator or "", separator)
    found = table.read(path, delimiter, [*named, *([label] if label else [])])
    label = label or _guess(found, LABELS, "label")
    named = named or [_guess(found, TEXTS, "text", beside=label)]
    log.info(f"columns   {' and '.join(named)} for the text, {label} for the label")
    if label in named:
        raise UserError(f"data.label={label} is data.text, too: name another column")
    texts = list(zip(*(found.column(name, "data.text") for name in named), strict=True))
    items, by_path = _items(texts, _labels(found, label, separator), may_lack=bool(separator))
    if splits_file:
        items = splits.read(Path(splits_file), exists=by_path.__contains__, among="data.file")
    else:
        items = _divided(items, by_path, val_fraction, test_fraction, seed, separator)
    items = splits.few_shot(items, max_per_class, seed) if max_per_class is not None else items
    _report(items, by_path)
    used = {i.label for i in items if not i.skipped}
    classes = {c for cell in used for c in several(cell, separator)} if separator else used
    result = TextTable(path, tuple(items), tuple(sorted(classes)), by_path, separator=separator or "")
    _refuse_unusable(result, label)
    return result


def _guess(found: table.Table, names: Sequence[str], what: str, beside: str | None = None) -> str:
    lower = {c.lower(): c for c in found.columns}
    for name in names:
        if name in lower and lower[name] != beside:
            return lower[name]
    others = [c for c in found.columns if c != beside]
    if beside and len(others) == 1:
        return others[0]
    raise UserError(f"which column is the {what}? data.{what}=...: {found.path} has {', '.join(found.columns)}")


def _labels(found: table.Table, label: str, separator: str | None) -> list[str]:
    cells = found.column(label, "data.label")
    if label in found.lists and separator != "|":
        raise UserError(
            f"data.label={label}: {found.path} holds lists there: data.separator=bar takes them as several classes"
        )
    if not separator:
        return _classes(cells, label, found.path)
    if not any(separator in c for c in cells):
        log.warning(f"data.separator={separator} stands in no label: each text has one class")
    return [separator.join(several(c, separator)) for c in cells]


def _classes(cells: list[str], label: str, path: Path) -> list[str]:
    """Class names; whole numbers written as 1.0 become 1. UserError for measurements."""
    names = [c.strip() for c in cells]
    if all(_NUMBER.fullmatch(n) for n in names if n):
        if strange := [n for n in names if n and not float(n).is_integer()]:
            raise UserError(
                f"data.label={label}: {path} holds numbers there, like {strange[0]}, and no names of classes"
            )
        names = [re.sub(r"\.0*$", "", n) for n in names]
    different = len(set(names))
    if different > max(50, len(names) // 2):
        raise UserError(
            f"data.label={label}: {path} has {different} different ones in {len(names)} rows, too many to be classes"
        )
    return names


def _items(
    texts: list[tuple[str, ...]], labels: list[str], may_lack: bool
) -> tuple[list[Item], dict[str, tuple[str, ...]]]:
    items, by_path = [], {}
    for row, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        digest = hashlib.blake2b("\0".join([*text, label]).encode("utf-8", "replace"), digest_size=4).hexdigest()
        path = f"{row}:{digest}"
        why = "no label" if not (label or may_lack) else "no text" if not all(t.strip() for t in text) else ""
        items.append(Item(path, label, "" if why else "train", why))
        by_path[path] = text
    for why, count in Counter(i.skipped for i in items if i.skipped).items():
        log.warning(f"skipped {count} of {len(items)} rows: {why}; splits.csv names them")
    return items, by_path


def _divided(
    items: list[Item],
    texts: dict[str, tuple[str, ...]],
    val_fraction: float,
    test_fraction: float,
    seed: int,
    separator: str | None,
) -> list[Item]:
    """Splits drawn among the first copies of each text, which later copies follow."""
    usable = [i for i in items if not i.skipped]
    first: dict[tuple[str, ...], str] = {}
    for item in usable:
        first.setdefault(_same(texts[item.path]), item.path)
    alone = [i for i in usable if first[_same(texts[i.path])] == i.path]
    strata, first_of = _strata(alone, separator)
    drawn = [i for i in alone if i.path not in first_of]
    for into, fraction in (("test", test_fraction), ("val", val_fraction / (1 - test_fraction))):
        drawn = splits.stratified(drawn, fraction, into, seed, strata) if fraction else drawn
    where = {i.path: i.split for i in [*alone, *drawn]}
    placed = [Item(i.path, i.label, where[first[_same(texts[i.path])]]) for i in usable]
    return sorted([*placed, *(i for i in items if i.skipped)], key=lambda i: int(i.path.partition(":")[0]))


def _strata(items: Sequence[Item], separator: str | None) -> tuple[dict[str, str], set[str]]:
    """Among which texts, by path, each is drawn, and which stay where they are: of single classes none.

    Of several classes, sets that are rare are drawn together, and the first text of each class is one to train on.
    """
    if not separator:
        return {i.path: i.label for i in items}, set()
    often = Counter(i.label for i in items)
    first_of: dict[str, str] = {}
    for item in items:
        for name in several(item.label, separator):
            first_of.setdefault(name, item.path)
    return {i.path: i.label if often[i.label] >= _OFTEN else "" for i in items}, set(first_of.values())


def _same(text: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(" ".join(t.split()).casefold() for t in text)


def _report(items: Sequence[Item], texts: dict[str, tuple[str, ...]]) -> None:
    copies: dict[tuple[str, ...], list[Item]] = defaultdict(list)
    for item in items:
        if not item.skipped:
            copies[_same(texts[item.path])].append(item)
    groups = [g for g in copies.values() if len(g) > 1]
    across = [g for g in groups if len({i.split for i in g}) > 1]
    unsure = [g for g in groups if len({i.label for i in g}) > 1]
    if groups:
        log.info(f"copies    {sum(len(g) - 1 for g in groups)} texts are copies of another (case and spaces aside)")
    if across:
        log.warning(f"{len(across)} texts are in more than one split, the first in row {_row(across[0][0])}")
    if unsure:
        log.warning(
            f"{len(unsure)} texts have copies with another label, the first in row {_row(unsure[0][0])} "
            f"({' and '.join(sorted({i.label for i in unsure[0]}))})"
        )


def _row(item: Item) -> str:
    return item.path.partition(":")[0]


def _refuse_unusable(found: TextTable, label: str) -> None:
    if not found.classes:
        raise UserError(f"no row of {found.root} has a text and a label")
    if len(found.classes) < 2:
        raise UserError(f"data.label={label}: {found.root} holds one class only, '{found.classes[0]}'")
    if empty := [c for c, n in zip(found.classes, found.counts("train"), strict=True) if n == 0]:
        raise UserError(f"class '{empty[0]}' has no text to train on: add some or remove its rows")
    if not any(found.counts("val")):
        raise UserError(f"no text of {found.root} is left for validation: add rows")
