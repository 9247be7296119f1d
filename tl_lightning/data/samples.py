"""Labelled samples in splits: the images of a folder, the texts of a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tl_lightning.errors import UserError
from tl_lightning.tasks.task import Task


@dataclass(frozen=True)
class Item:
    """One sample: path relative to the root, label, split, and why it is in none (empty: it is used)."""

    path: str
    label: str
    split: str
    skipped: str = ""


@dataclass(frozen=True)
class Samples:
    """Items under `root`, and the task that their labels are for. `noun`: what they are, for people.

    What cannot be used is set aside with its reason. `weights`: what samples count in training, by path; of none, all
    count the same. `copies`: equal for copies of one sample, by the path of each that has some.
    `grouped_by`: the pattern or the column of groups that stay on one side of a split.
    """

    root: Path
    items: tuple[Item, ...]
    task: Task
    weights: Mapping[str, float] = field(default_factory=dict)
    copies: Mapping[str, Hashable] = field(default_factory=dict)
    grouped_by: str | None = None
    noun: ClassVar[str]

    def lies_at(self) -> dict[str, Path]:
        """Where the samples lie, by the option that says it."""
        return {"root": self.root}

    def sample(self, item: Item) -> Any:
        """What a split holds of an item."""
        raise NotImplementedError

    def described(self, item: Item) -> str:
        """An item for people who look at one."""
        return item.path

    def shown(self, item: Item) -> str:
        """An item on a page: a picture as a data URL, or text."""
        return self.described(item)

    def rows(self, items: Sequence[Item], beside: Path) -> list[list[str]]:
        """A table's first line and a row for each item, to be written into the folder `beside`; it trains as it is."""
        raise NotImplementedError

    def words(self, items: Sequence[Item]) -> list[str]:
        """What must be said for such a table to be read as it is meant."""
        return []

    def used(self, split: str) -> list[Item]:
        """A split's usable items."""
        return [i for i in self.items if i.split == split and not i.skipped]

    def split(self, name: str) -> list[tuple[Any, Any]]:
        """(sample, target) of a split's usable items."""
        items = self.used(name)
        return list(zip(map(self.sample, items), self.task.encode([i.label for i in items]), strict=True))

    def targets(self, name: str) -> np.ndarray:
        """Targets (N,) or (N, C) of a split's usable items, in the order of `split`."""
        return self.task.encode([i.label for i in self.used(name)])

    def weights_of(self, split: str) -> np.ndarray | None:
        """(N,): what each usable item of a split counts, 1 on average; None where all count the same.

        Raises UserError where none counts.
        """
        if not self.weights:
            return None
        found = np.array([self.weights[i.path] for i in self.used(split)])
        if not found.any():
            raise UserError(f"data.weight: no {split} sample has a weight above 0")
        scaled: np.ndarray = found / found.mean()
        return scaled

    def leaked(self, split: str) -> np.ndarray:
        """(N,): whether a copy of a split's usable item is among those that are trained on."""
        trained = {self.copies[i.path] for i in self.used("train") if i.path in self.copies}
        return np.array([self.copies.get(i.path) in trained for i in self.used(split)], bool)

    def size(self, split: str) -> int:
        """Usable items in a split."""
        return len(self.used(split))

    def counts(self, split: str) -> list[int]:
        """Usable items of each output of the task in a split."""
        found = Counter(name for i in self.used(split) for name in self.task.members(i.label))
        return [found[name] for name in self.task.outputs]

    def groups(self, split: str, pattern: str) -> list[str]:
        """The group of each usable item of a split: what a regular expression finds in its path, its first bracket.

        Raises UserError for a path in which it finds nothing, or for no regular expression.
        """
        return groups_in([i.path for i in self.used(split)], pattern, "group")

    def refuse_unusable(self, where: str) -> None:
        """Raise UserError unless there is something to train on and to validate with."""
        one = self.noun.removesuffix("s")
        self.task.refuse_unusable(where, one, dict(zip(self.task.outputs, self.counts("train"), strict=True)))
        for split, doing in (("train", "to train on"), ("val", "for validation")):
            if not self.size(split):
                raise UserError(
                    f"no {one} of {self.root} is left {doing}: add {self.noun}, or name a split of your own"
                )

    @property
    def skipped(self) -> list[Item]:
        """The items that cannot be used."""
        return [i for i in self.items if i.skipped]


def groups_in(paths: Sequence[str], pattern: str, key: str) -> list[str]:
    """What a regular expression finds in each path, its first bracket. `key`: the option that names it.

    Raises UserError for a path in which it finds nothing, or for no regular expression.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{key}={pattern} is no regular expression: {error}") from error
    found = []
    for path in paths:
        match = expression.search(path)
        group = match and match.group(1 if expression.groups else 0)
        if group is None:
            raise UserError(f"{key}={pattern} finds nothing in {path}: every path must name its group")
        found.append(group)
    return found
