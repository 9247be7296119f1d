"""Copies of one sample: kept on one side of a split that is drawn, and said."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace

from tl_lightning.data.samples import Item
from tl_lightning.data.splits import SplitOptions
from tl_lightning.tasks.task import Task

log = logging.getLogger(__name__)

Same = Mapping[str, Hashable]  # by path: equal for copies


def divided(
    items: Sequence[Item], same: Same, task: Task, division: SplitOptions, given: Collection[str] = ()
) -> list[Item]:
    """Usable items with those splits that are not `given` drawn among the first copies, which later copies follow."""
    first: dict[Hashable, str] = {}
    for item in items:
        if item.split == "train":
            first.setdefault(same[item.path], item.path)
    alone = [i for i in items if i.split != "train" or first[same[i.path]] == i.path]
    where = {i.path: i.split for i in division.drawn(alone, task, given)}
    return [replace(i, split=where[first[same[i.path]]]) if i.split == "train" else i for i in items]


def report(items: Sequence[Item], same: Same, noun: str, named: Callable[[Item], str], how: str = "") -> None:
    """Say how many usable items are copies, which are in several splits, and which have several labels."""
    copies: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        if not item.skipped:
            copies[same[item.path]].append(item)
    groups = [group for group in copies.values() if len(group) > 1]
    if groups:
        log.info(f"copies    {sum(len(g) - 1 for g in groups)} {noun} are copies of another{how}")
    if across := [g for g in groups if len({i.split for i in g}) > 1]:
        split, other = sorted({i.split for i in across[0]})[:2]
        log.warning(
            f"{len(across)} {noun} are in more than one split, the first {named(across[0][0])} (in {other} and "
            f"{split}): scores of what was trained on say nothing"
        )
    if unsure := [g for g in groups if len({i.label for i in g}) > 1]:
        pair = " and ".join(named(i) for i in unsure[0][:2])
        labels = " and ".join(sorted({i.label for i in unsure[0]}))
        log.warning(f"{len(unsure)} {noun} have copies with another label, the first {pair} ({labels})")
