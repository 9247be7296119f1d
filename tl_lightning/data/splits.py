"""Which sample is in which split: found, drawn once, written down."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tl_lightning import checks
from tl_lightning.data.drawing import Units, few_shot, moved, parts_of, stratified
from tl_lightning.data.samples import Item
from tl_lightning.errors import UserError
from tl_lightning.files import atomically
from tl_lightning.printable import guarded, unguarded
from tl_lightning.tasks.task import Task

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_PLAIN = frozenset(("set", "data", "dataset", "images", "imgs", "split", "folder"))  # beside a split's name: train_set
_COLUMNS = ("path", "split", "class", "skipped")


@dataclass(frozen=True)
class SplitOptions:
    """How samples are divided where nothing else says it.

    `val_fraction` (and `test_fraction`) of the training samples are set aside, `max_per_class` of each class are kept.
    `group` finds that of a sample, all of which stays on one side: a regular expression for its path (its first
    bracket), or a column. `doctor`: what is done about copies of one sample: "off", near ones are not looked for and
    nothing is said; "warn"; "full", near ones are looked for among any number of samples; "strict", nothing is trained
    where copies are in several splits. `folds`: of so many parts of what there is to train on, that of number `fold`
    (from 0) validates. `splits` repeats the split of an earlier run from its file. `split_seed` draws. Raises UserError
    for numbers that leave nothing.
    """

    val_fraction: float = 0.2
    test_fraction: float = 0.0
    max_per_class: int | None = None
    group: str | None = None
    doctor: str = "warn"
    folds: int | None = None
    fold: int = 0
    splits: str | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        for key in ("val_fraction", "test_fraction"):
            checks.number(f"data.{key}", getattr(self, key), 0, 1)
        checks.whole("data.max_per_class", self.max_per_class, 1, optional=True)
        checks.whole("data.split_seed", self.split_seed, 0)
        if str(self.doctor) == "False":  # which is how YAML reads "off"
            object.__setattr__(self, "doctor", "off")
        checks.one_of("doctor", self.doctor, ("off", "warn", "full", "strict"))
        checks.whole("data.folds", self.folds, 2, optional=True)
        checks.whole("data.fold", self.fold, 0)
        if self.fold >= (self.folds or 1):
            raise UserError(f"data.fold={self.fold}: with data.folds={self.folds or 'null'} there is no such part")
        if self.folds and self.splits:
            raise UserError(f"data.folds={self.folds}: data.splits={self.splits} says all; leave one of them out")
        if not 0 < self.val_fraction < 1 or self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                f"data.val_fraction={self.val_fraction} and data.test_fraction={self.test_fraction} must leave some "
                "to train on and to validate with"
            )

    def drawn(
        self, items: Sequence[Item], task: Task, given: Collection[str] = (), units: Units | None = None
    ) -> list[Item]:
        """Items with the splits that are not `given` drawn from their training items, stratified as the task says.

        All of a unit stays on one side. Raises UserError for folds where it is given which samples validate, and for
        fewer units than parts.
        """
        labels = [i.label for i in items]
        named, kept = task.strata(labels)
        strata = {i.path: stratum for i, stratum in zip(items, named, strict=True)}
        stay = {items[k].path for k in kept} if units is None else set()
        drawn, share = [i for i in items if i.path not in stay], self.val_fraction
        if "test" not in given and self.test_fraction:
            drawn = self._moved(drawn, self.test_fraction, "test", strata, units)
            share /= 1 - self.test_fraction
        if self.folds:
            if "val" in given:
                raise UserError(f"data.folds={self.folds}: which samples validate is given already; leave it out")
            part = parts_of(drawn, self.folds, self.split_seed, strata, units)[self.fold]
            drawn = moved(drawn, part, "val")
        elif "val" not in given:
            drawn = self._moved(drawn, share, "val", strata, units)
        where = {i.path: i.split for i in drawn}
        return [replace(i, split=where.get(i.path, i.split)) for i in items]

    def _moved(
        self, items: Sequence[Item], share: float, into: str, strata: Mapping[str, str], units: Units | None
    ) -> list[Item]:
        """About `share` of the train items moved to a split."""
        if units is None:
            return stratified(items, share, into, self.split_seed, strata)
        parts = parts_of(items, max(2, round(1 / share)), self.split_seed, strata, units)
        wanted = share * sum(map(len, parts))
        part = min(parts, key=lambda paths: abs(len(paths) - wanted))
        return moved(items, part, into)

    def limited(self, items: Sequence[Item], task: Task) -> list[Item]:
        """At most `max_per_class` training items of each label. Raises UserError where labels are no classes."""
        if self.max_per_class is None:
            return list(items)
        task.refuse_few_shot()
        return few_shot(items, self.max_per_class, self.split_seed)


def repeating(options: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Options of data with the division that stands in a file, whatever they say of folds."""
    none = {"folds": None, "fold": 0}
    return {**options, **{k: v for k, v in none.items() if k in options}, "splits": str(file)}


def split_of(name: str) -> tuple[str, str] | None:
    """The split that a name says, and what else it says ("seg" of seg_train); None for no split."""
    words = re.findall(r"[a-z]+", name.lower())
    said = [w for w in words if w in _NAMES]
    if len(said) != 1:
        return None
    return _NAMES[said[0]], " ".join(w for w in words if w not in _NAMES and w not in _PLAIN)


def write(items: Sequence[Item], path: Path) -> None:
    """All items, skipped ones with their reason, as CSV; a cell that a spreadsheet would compute begins with a '."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows(map(guarded, (i.path, i.split, i.label, i.skipped)) for i in items)
    whole = text.getvalue().encode("utf-8", "surrogateescape")
    atomically(path, lambda draft: draft.write_bytes(whole))


def read(path: Path, exists: Callable[[str], bool], among: str = "data.root", files: bool = True) -> list[Item]:
    """Items as `write` left them, its columns in any order. Raises UserError if the file is another's.

    So it does for samples that are gone, that lie elsewhere, or that are named twice. `among`: the option that says
    where they should be; `files`: in a folder, out of which no path leads.
    """
    items = [Item(*(unguarded(cell) for cell in row)) for row in _rows(path)]
    if skipped := [i for i in items if i.skipped]:
        log.warning(f"{path} leaves out {len(skipped)} samples, the first {skipped[0].path} ({skipped[0].skipped})")
    if strange := {i.split for i in items if not i.skipped} - set(SPLITS):
        raise UserError(f"data.splits={path} names unknown splits {sorted(strange)}: use {', '.join(SPLITS)}")
    if files and (outside := [i.path for i in items if Path(i.path).is_absolute() or ".." in Path(i.path).parts]):
        raise UserError(f"data.splits={path} names {outside[0]}, which is not below {among}: remove that line")
    seen = Counter(i.path for i in items)
    if doubled := [name for name, count in seen.items() if count > 1]:
        raise UserError(f"data.splits={path} names {doubled[0]} {seen[doubled[0]]} times: keep one of its lines")
    if gone := [i.path for i in items if not i.skipped and not exists(i.path)]:
        raise UserError(
            f"data.splits={path} names {len(gone)} samples that are not in {among}: {', '.join(gone[:3])}; bring them "
            "back, or remove their lines"
        )
    return items


def written_here(path: Path) -> bool:
    """Whether a file has exactly the columns that `write` writes, in any order; so counts one that cannot be opened."""
    if not path.is_file():
        return True
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        return sorted(next(csv.reader(file), [])) == sorted(_COLUMNS)


def _rows(path: Path) -> list[list[str]]:
    """The cells of every line, in the order of _COLUMNS. Raises UserError for a file that has not these."""
    if not path.is_file():
        raise UserError(f"data.splits={path} does not exist")
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:  # spreadsheets add the mark
        rows = [row for row in csv.reader(file) if row]
    if not rows or sorted(rows[0]) != sorted(_COLUMNS):
        raise UserError(f"data.splits={path} must have the columns {', '.join(_COLUMNS)}")
    if short := [i for i, row in enumerate(rows, 1) if len(row) != len(_COLUMNS)]:
        raise UserError(f"data.splits={path}: line {short[0]} has not the {len(_COLUMNS)} columns of the first")
    order = [rows[0].index(name) for name in ("path", "class", "split", "skipped")]  # as Item has them
    return [[row[k] for k in order] for row in rows[1:]]
