"""Labels that are probably wrong: those that a model which has not seen them finds unlikely.

Confident learning (Northcutt, Jiang and Chuang, arXiv:1911.00068).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FOLDS = 5
_TIMES, _RIGHT = 20, 0.8  # as probable as the label, and accuracy of the models, from which on they are believed


@dataclass(frozen=True)
class Suspect:
    """A sample by its place, the probability of its label, and what it looks like instead, at which probability.

    `sure`: as probable as that is, on average, for samples that bear its name, many times as probable as the label, and
    by models that are right most of the time.
    """

    place: int
    given: float
    suggested: str
    probability: float
    sure: bool


def out_of_fold(
    features: np.ndarray,
    targets: np.ndarray,
    fit: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]],
    units: np.ndarray,
    strata: np.ndarray,
) -> np.ndarray:
    """(N, C): what models that `fit` features (N, D) and targets, five in turn, say of what each has not seen.

    `units` (N,): equal for samples that are left out together, copies of one; `strata` (N,): what every part has its
    share of.
    """
    first, unit = np.unique(units, return_index=True, return_inverse=True)[1:]
    random, part = np.random.default_rng(0), np.zeros(len(first), int)
    for stratum in np.unique(strata[first]):
        places = random.permutation(np.flatnonzero(strata[first] == stratum))
        part[places] = (np.arange(len(places)) + random.integers(FOLDS)) % FOLDS
    fold = part[unit]
    said = [(fold == k, fit(features[fold != k], targets[fold != k])(features[fold == k])) for k in np.unique(fold)]
    found = np.zeros((len(features), said[0][1].shape[1]))
    for places, values in said:
        found[places] = values
    return found


def of_classes(probabilities: np.ndarray, targets: np.ndarray, names: tuple[str, ...]) -> list[Suspect]:
    """Of classes (N,), where another is more probable; the least probable label first.

    Of 12 labels of 245 that were flipped 9.7 are among the first 12 (docs/data.md).
    """
    given = probabilities[np.arange(len(targets)), targets]
    usual = np.array([given[targets == c].mean() if (targets == c).any() else np.inf for c in range(len(names))])
    other = probabilities.argmax(1)
    likeliest = probabilities[np.arange(len(targets)), other]
    sure = (likeliest >= usual[other]) & (likeliest >= _TIMES * given) & ((other == targets).mean() >= _RIGHT)
    order = [i for i in np.argsort(given, kind="stable") if other[i] != targets[i]]
    return [Suspect(int(i), float(given[i]), names[other[i]], float(likeliest[i]), bool(sure[i])) for i in order]


def of_several(probabilities: np.ndarray, targets: np.ndarray, names: tuple[str, ...]) -> list[Suspect]:
    """Of several classes (N, C) of 0 and 1: each of them is a question by itself, and the worst of a sample counts."""
    found: dict[int, Suspect] = {}
    for c, name in enumerate(names):
        both = np.stack([1 - probabilities[:, c], probabilities[:, c]], 1)
        for suspect in of_classes(both, targets[:, c].astype(int), (f"not {name}", name)):
            if suspect.place not in found or suspect.given < found[suspect.place].given:
                found[suspect.place] = suspect
    return sorted(found.values(), key=lambda s: s.given)
