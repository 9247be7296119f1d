"""How samples are drawn for a split: by classes, in folds, by groups."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
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
    moved: set[str] = set()
    for stratum, paths in sorted(_train_by(items, strata).items()):
        count = min(max(1, round(len(paths) * fraction)), len(paths) - 1) if len(paths) > 1 else 0
        moved.update(_draw(paths, count, stratum, seed))
    return [replace(i, split=into) if i.path in moved else i for i in items]


def one_fold(items: Sequence[Item], folds: int, fold: int, seed: int, strata: Mapping[str, str]) -> list[Item]:
    """Move one of `folds` parts of the train items to val: each has its share of every stratum, one of a kind stays.

    Raises UserError for more parts than items.
    """
    several = {stratum: paths for stratum, paths in _train_by(items, strata).items() if len(paths) > 1}
    order = [p for stratum, paths in sorted(several.items()) for p in _draw(paths, len(paths), stratum, seed)]
    if folds > len(order):
        raise UserError(f"data.folds={folds}: there are {len(order)} samples to divide")
    moved = set(order[fold::folds])  # dealt one by one, so that parts and classes differ by one sample at most
    return [replace(i, split="val") if i.path in moved else i for i in items]


def grouped_parts(
    items: Sequence[Item], parts: int, seed: int, strata: Mapping[str, str], units: Units
) -> list[set[str]]:
    """The paths of the train items in so many parts, as even and as stratified as units that stay together allow.

    Raises UserError for fewer units than parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import, and rarely needed

    among = sorted(i.path for i in items if i.split == "train")
    named, together = [strata[path] for path in among], [units[path] for path in among]
    if parts > len(set(together)):
        raise UserError(f"data.group: {len(set(together))} groups cannot be divided into {parts} parts")
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
    by_label: dict[str, list[str]] = defaultdict(list)
    for item in items:
        if item.split == "train" and not item.skipped:
            by_label[item.label].append(item.path)
    kept: set[str] = set()
    for label, paths in sorted(by_label.items()):
        kept.update(_draw(sorted(paths), min(per_class, len(paths)), label, seed))
    return [i for i in items if i.split != "train" or i.skipped or i.path in kept]


def _draw(paths: Sequence[str], count: int, label: str, seed: int) -> list[str]:
    random = np.random.default_rng([seed, *label.encode()])
    return [paths[i] for i in random.permutation(len(paths))[:count]]
