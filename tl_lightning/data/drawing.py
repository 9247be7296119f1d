"""How samples are drawn for a split: by classes, in folds, by groups."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tl_lightning.data.samples import Item
from tl_lightning.errors import UserError

Units = Mapping[str, Hashable]  # by path: equal for samples that stay on one side


def stratified(
    items: Sequence[Item], fraction: float, into: str, seed: int, strata: Mapping[str, str] | None = None
) -> list[Item]:
    """Move `fraction` of each class's train items to the split `into`: at least one where a class has two.

    A class's draw depends on its own files and the seed alone. `strata`, by path, stand for the classes if given.
    """
    strata = strata or {i.path: i.label for i in items}
    chosen: set[str] = set()
    for stratum, paths in sorted(_train_by(items, strata).items()):
        count = min(max(1, round(len(paths) * fraction)), len(paths) - 1) if len(paths) > 1 else 0
        chosen.update(_draw(paths, count, stratum, seed))
    return moved(items, chosen, into)


def moved(items: Sequence[Item], paths: Collection[str], into: str) -> list[Item]:
    """Items, those with these paths in the split `into`."""
    return [replace(i, split=into) if i.path in paths else i for i in items]


def parts_of(
    items: Sequence[Item], parts: int, seed: int, strata: Mapping[str, str], units: Units | None
) -> list[set[str]]:
    """The paths of the train items in so many parts, each with its share of every stratum; one of a kind is in none.

    All of a unit is in one part. Raises UserError for more parts than there are items, or units.
    """
    if units is not None:
        return _grouped_parts(items, parts, seed, strata, units)
    several = {stratum: paths for stratum, paths in _train_by(items, strata).items() if len(paths) > 1}
    order = [p for stratum, paths in sorted(several.items()) for p in _draw(paths, len(paths), stratum, seed)]
    if parts > len(order):
        raise UserError(f"data.folds={parts}: there are {len(order)} samples to divide")
    return [set(order[k::parts]) for k in range(parts)]  # dealt one by one: parts and classes differ by one at most


def _grouped_parts(
    items: Sequence[Item], parts: int, seed: int, strata: Mapping[str, str], units: Units
) -> list[set[str]]:
    """As even and as stratified as units that stay together allow."""
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import, and rarely needed

    among = sorted(i.path for i in items if i.split == "train")
    named, together = [strata[path] for path in among], [units[path] for path in among]
    if parts > len(set(together)):
        raise UserError(
            f"data.group: {len(set(together))} groups cannot be divided into {parts} parts; data.group=none heeds none"
        )
    drawn = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # of a class that is in fewer groups than there are parts
        warnings.simplefilter("ignore")
        return [{among[k] for k in chosen} for _, chosen in drawn.split(named, named, together)]


def _train_by(items: Sequence[Item], strata: Mapping[str, str]) -> dict[str, list[str]]:
    """The sorted paths of the train items of every stratum."""
    by_stratum: dict[str, list[str]] = defaultdict(list)
    for item in items:
        if item.split == "train":
            by_stratum[strata[item.path]].append(item.path)
    return {stratum: sorted(paths) for stratum, paths in by_stratum.items()}


def few_shot(items: Sequence[Item], per_class: int, seed: int) -> list[Item]:
    """At most `per_class` usable train items of each class; the other splits stay whole."""
    usable = [i for i in items if not i.skipped]
    kept: set[str] = set()
    for label, paths in sorted(_train_by(usable, {i.path: i.label for i in usable}).items()):
        kept.update(_draw(paths, min(per_class, len(paths)), label, seed))
    return [i for i in items if i.split != "train" or i.skipped or i.path in kept]


def _draw(paths: Sequence[str], count: int, label: str, seed: int) -> list[str]:
    random = np.random.default_rng([seed, *label.encode()])
    return [paths[i] for i in random.permutation(len(paths))[:count]]
