"""Copies of one sample, and samples of one group: kept on one side of a split that is drawn, and said."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tl_lightning.data.samples import Item
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError
from tl_lightning.tasks.task import Task

log = logging.getLogger(__name__)

Same = Mapping[str, Hashable]  # by path: equal for copies
Groups = Mapping[str, str]  # by path


def divided(
    items: Sequence[Item],
    same: Same,
    task: Task,
    division: SplitOptions,
    given: Collection[str] = (),
    groups: Groups | None = None,
) -> list[Item]:
    """Usable items with those splits that are not `given` drawn among the first copies, which later copies follow.

    Of `groups` all stays on one side, and what holds copies of each other. Raises UserError for groups that cannot be
    divided.
    """
    if groups is not None:
        return _by_groups(items, same, task, division, given, groups)
    first: dict[Hashable, str] = {}
    for item in items:
        if item.split == "train":
            first.setdefault(same[item.path], item.path)
    alone = [i for i in items if i.split != "train" or first[same[i.path]] == i.path]
    where = {i.path: i.split for i in division.drawn(alone, task, given)}
    return [replace(i, split=where[first[same[i.path]]]) if i.split == "train" else i for i in items]


def _by_groups(
    items: Sequence[Item], same: Same, task: Task, division: SplitOptions, given: Collection[str], groups: Groups
) -> list[Item]:
    if len(set(groups.values())) == 1:
        raise UserError(f"data.group={division.group} puts all samples into one group, '{next(iter(groups.values()))}'")
    found = division.drawn(items, task, given, _together([i.path for i in items], same, groups))
    _report_groups(found, groups, task)
    return found


def _report_groups(found: Sequence[Item], groups: Groups, task: Task) -> None:
    """Say which groups are in several splits, and how much of everything each split has."""
    where: dict[str, set[str]] = defaultdict(set)
    for item in found:
        where[groups[item.path]].add(item.split)
    if across := sorted(group for group, splits in where.items() if len(splits) > 1):
        log.warning(
            f"{len(across)} of {len(where)} groups are in more than one split, the first {across[0]}: scores of what "
            "was trained on say nothing"
        )
    total = Counter(name for i in found for name in task.members(i.label))
    for split in sorted({i.split for i in found} - {"train"}):
        part = [i for i in found if i.split == split]
        counts = Counter(name for i in part for name in task.members(i.label))
        shares = [counts[name] / count for name, count in total.items()]
        number = len({groups[i.path] for i in part})
        of_classes = f", {min(shares):.0%} to {max(shares):.0%} of each class" if shares else ""
        log.info(
            f"groups    {split}: {number} of {len(where)}, {len(part) / len(found):.0%} of all samples{of_classes}"
        )


def _together(paths: Sequence[str], *keys: Mapping[str, Hashable]) -> dict[str, int]:
    """By path a number that is equal for what any of the keys, or a chain of them, puts together."""
    places = {key: place for place, key in enumerate(dict.fromkeys(_keys(paths, keys)), len(paths))}
    ends = [places[key] for key in _keys(paths, keys)]
    begins = [k for k in range(len(paths)) for _ in keys]
    size = len(paths) + len(places)
    _, unit = connected_components(coo_matrix((np.ones(len(ends)), (begins, ends)), (size, size)), directed=False)
    return dict(zip(paths, unit[: len(paths)].tolist(), strict=True))


def _keys(paths: Sequence[str], keys: Sequence[Mapping[str, Hashable]]) -> Iterator[tuple[int, Hashable]]:
    return ((number, key[path]) for path in paths for number, key in enumerate(keys))


def report(
    items: Sequence[Item], same: Same, noun: str, named: Callable[[Item], str], how: str = "", doctor: str = "warn"
) -> dict[str, Hashable]:
    """Say how many usable items are copies, which are in several splits, and which have several labels.

    Gives what stands for those that have copies, by path. `doctor` "strict": raises UserError for copies in several
    splits; "off": says nothing.
    """
    copies: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        if not item.skipped:
            copies[same[item.path]].append(item)
    groups = [group for group in copies.values() if len(group) > 1]
    several = {item.path: same[item.path] for group in groups for item in group}
    if doctor == "off":
        return several
    if groups:
        log.info(f"copies    {sum(len(g) - 1 for g in groups)} {noun} are copies of another{how}")
    if across := [g for g in groups if len({i.split for i in g}) > 1]:
        split, other = sorted({i.split for i in across[0]})[:2]
        said = (
            f"{len(across)} {noun} are in more than one split, the first {named(across[0][0])} (in {other} and "
            f"{split}): scores of what was trained on say nothing"
        )
        if doctor == "strict":
            raise UserError(f"{said}; tl doctor lists them, and doctor=warn trains all the same")
        log.warning(said)
    if unsure := [g for g in groups if len({i.label for i in g}) > 1]:
        pair = " and ".join(named(i) for i in unsure[0][:2])
        labels = " and ".join(sorted({i.label for i in unsure[0]}))
        log.warning(f"{len(unsure)} {noun} have copies with another label, the first {pair} ({labels})")
    return several
