"""Which sample is in which split: found, drawn once, written down."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tl_lightning import checks
from tl_lightning.data.samples import Item
from tl_lightning.errors import UserError
from tl_lightning.tasks.task import Task

SPLITS = ("train", "val", "test")
_COLUMNS = ("path", "split", "class", "skipped")


@dataclass(frozen=True)
class SplitOptions:
    """How samples are divided where nothing else says it.

    `val_fraction` (and `test_fraction`) of the training samples are set aside, `max_per_class` of each class are kept.
    `splits` repeats the split of an earlier run from its file. `split_seed` draws.
    """

    val_fraction: float = 0.2
    test_fraction: float = 0.0
    max_per_class: int | None = None
    splits: str | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        for key in ("val_fraction", "test_fraction"):
            checks.number(f"data.{key}", getattr(self, key), 0, 1)
        checks.whole("data.max_per_class", self.max_per_class, 1, optional=True)
        checks.whole("data.split_seed", self.split_seed, 0)
        if not 0 < self.val_fraction < 1 or self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                f"data.val_fraction={self.val_fraction} and data.test_fraction={self.test_fraction} must leave some "
                "to train on and to validate with"
            )

    def drawn(self, items: Sequence[Item], task: Task, given: Collection[str] = ()) -> list[Item]:
        """Items with the splits that are not `given` drawn from their training items, stratified as the task says."""
        labels = [i.label for i in items]
        named, kept = task.strata(labels)
        strata = {i.path: stratum for i, stratum in zip(items, named, strict=True)}
        stay = {items[k].path for k in kept}
        drawn, share = [i for i in items if i.path not in stay], self.val_fraction
        if "test" not in given and self.test_fraction:
            drawn = stratified(drawn, self.test_fraction, "test", self.split_seed, strata)
            share /= 1 - self.test_fraction
        if "val" not in given:
            drawn = stratified(drawn, share, "val", self.split_seed, strata)
        where = {i.path: i.split for i in drawn}
        return [replace(i, split=where.get(i.path, i.split)) for i in items]

    def limited(self, items: Sequence[Item], task: Task) -> list[Item]:
        """At most `max_per_class` training items of each label. Raises UserError where labels are no classes."""
        if self.max_per_class is None:
            return list(items)
        task.refuse_few_shot()
        return few_shot(items, self.max_per_class, self.split_seed)


def stratified(
    items: Sequence[Item], fraction: float, into: str, seed: int, strata: Mapping[str, str] | None = None
) -> list[Item]:
    """Move `fraction` of each class's train items to the split `into`: at least one where a class has two.

    A class's draw depends on its own files and the seed alone. `strata`, by path, stand for the classes if given.
    """
    strata = strata or {i.path: i.label for i in items}
    moved: set[str] = set()
    for stratum in sorted({strata[i.path] for i in items}):
        paths = sorted(i.path for i in items if strata[i.path] == stratum and i.split == "train")
        count = min(max(1, round(len(paths) * fraction)), len(paths) - 1) if len(paths) > 1 else 0
        moved.update(_draw(paths, count, stratum, seed))
    return [replace(i, split=into) if i.path in moved else i for i in items]


def few_shot(items: Sequence[Item], per_class: int, seed: int) -> list[Item]:
    """At most `per_class` usable train items of each class; the other splits stay whole."""
    kept: set[str] = set()
    for label in sorted({i.label for i in items}):
        paths = sorted(i.path for i in items if i.label == label and i.split == "train" and not i.skipped)
        kept.update(_draw(paths, min(per_class, len(paths)), label, seed))
    return [i for i in items if i.split != "train" or i.skipped or i.path in kept]


def _draw(paths: Sequence[str], count: int, label: str, seed: int) -> list[str]:
    random = np.random.default_rng([seed, *label.encode()])
    return [paths[i] for i in random.permutation(len(paths))[:count]]


def write(items: Sequence[Item], path: Path) -> None:
    """All items, skipped ones with their reason, as CSV."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows((i.path, i.split, i.label, i.skipped) for i in items)


def read(path: Path, exists: Callable[[str], bool], among: str = "data.root") -> list[Item]:
    """Items as `write` left them. Raises UserError if the file is another's or names samples that are gone.

    `among`: the option that says where they should be.
    """
    if not path.is_file():
        raise UserError(f"data.splits={path} does not exist")
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:  # spreadsheets add the mark
        rows = [row for row in csv.reader(file) if row]
    if not rows or tuple(rows[0]) != _COLUMNS:
        raise UserError(f"data.splits={path} must have the columns {', '.join(_COLUMNS)}")
    if short := [i for i, row in enumerate(rows, 1) if len(row) != len(_COLUMNS)]:
        raise UserError(f"data.splits={path}: line {short[0]} has not the {len(_COLUMNS)} columns of the first")
    items = [Item(path=r[0], split=r[1], label=r[2], skipped=r[3]) for r in rows[1:]]
    if strange := {i.split for i in items if not i.skipped} - set(SPLITS):
        raise UserError(f"data.splits={path} names unknown splits {sorted(strange)}: use {', '.join(SPLITS)}")
    if gone := [i.path for i in items if not i.skipped and not exists(i.path)]:
        raise UserError(f"data.splits={path} names {len(gone)} samples that are not in {among}: {', '.join(gone[:3])}")
    return items
