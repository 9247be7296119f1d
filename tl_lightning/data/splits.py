"""Which image is in which split: found, drawn once, written down."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tl_lightning.errors import UserError

SPLITS = ("train", "val", "test")
_COLUMNS = ("path", "split", "class", "skipped")


@dataclass(frozen=True)
class Item:
    """One image: path relative to the root, class name, split, and why it is in none (empty: it is used)."""

    path: str
    label: str
    split: str
    skipped: str = ""


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
    return [Item(i.path, i.label, into, i.skipped) if i.path in moved else i for i in items]


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


def check_fractions(val: float, test: float, per_class: int | None, noun: str) -> None:
    """UserError unless the numbers that say how to divide leave something to train on."""
    if strange := [n for n in (val, test, per_class or 0) if not isinstance(n, (int, float))]:
        raise UserError(
            f"data.val_fraction, data.test_fraction and data.max_per_class are numbers: {strange[0]} is none"
        )
    if per_class is not None and per_class < 1:
        raise UserError(f"data.max_per_class={per_class} must be at least 1, or null for all")
    if not 0 < val < 1 or not 0 <= test < 1 or val + test >= 1:
        raise UserError(f"data.val_fraction={val} and data.test_fraction={test} must leave {noun} to train on")


def read(path: Path, exists: Callable[[str], bool], among: str = "data.root") -> list[Item]:
    """Items as `write` left them; UserError if the file is another's or names samples that are gone.

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
