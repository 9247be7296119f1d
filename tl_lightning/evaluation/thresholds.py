"""The probability from which an answer is given, chosen for a wanted precision, recall or F1 of its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tl_lightning.errors import UserError

_AIMS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Aim:
    """A wanted precision or recall of every class, or the best F1."""

    name: str
    least: float

    @classmethod
    def parsed(cls, text: str) -> Aim:
        """Of "precision:0.99", "recall:0.9" or "f1". Raises UserError for anything else."""
        name, _, value = text.partition(":")
        try:
            least = float(value) if value else 0.0
        except ValueError:
            least = -1.0
        if name not in _AIMS or not 0 <= least <= 1 or (name != "f1") != bool(value):
            raise UserError(f"threshold={text}: say precision:0.99, recall:0.9 (from 0 to 1), or f1")
        return cls(name, least)


def choose(
    aim: Aim, probabilities: np.ndarray, answered: np.ndarray, true: np.ndarray, names: Sequence[str]
) -> list[float]:
    """A threshold for each of C classes, all arrays (N, C).

    `answered`: samples for which the class is the answer if it is sure enough; `true`: of which it is the class.
    Of the thresholds that reach the aim, the one that answers most (for precision), else the strictest (for recall).
    Raises UserError for a class that reaches it nowhere, with the best there is.
    """
    return [
        _choose_one(aim, probabilities[:, k], answered[:, k], true[:, k].astype(bool), name)
        for k, name in enumerate(names)
    ]


def _choose_one(aim: Aim, probability: np.ndarray, answered: np.ndarray, true: np.ndarray, name: str) -> float:
    if not true.any():
        raise UserError(f"threshold={aim.name}: the validation samples hold none of class '{name}': leave it out")
    if not answered.any():
        raise UserError(f"threshold={aim.name}: class '{name}' is never the answer for a validation sample")
    order = np.argsort(-probability[answered], kind="stable")
    sure, hits = probability[answered][order], np.cumsum(true[answered][order])
    last = np.append(np.flatnonzero(np.diff(sure)), len(sure) - 1)  # of those with one probability
    precision, recall = hits[last] / (last + 1), hits[last] / true.sum()
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    measured = {"precision": precision, "recall": recall, "f1": f1}[aim.name]
    reached = np.flatnonzero(measured >= (measured.max() if aim.name == "f1" else aim.least))
    if not len(reached):
        raise UserError(
            f"threshold={aim.name}:{aim.least:g} cannot be reached for class '{name}': the best is {measured.max():.4f}"
        )
    place = reached[-1] if aim.name == "precision" else reached[0]
    return float(sure[last[place]])
