"""Of answers that are one class each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from tl_lightning.evaluation import calibration
from tl_lightning.evaluation.findings import Findings, Score
from tl_lightning.evaluation.intervals import of_confusion, wilson

_TOP = 5


def judge(
    probabilities: np.ndarray, targets: np.ndarray, names: Sequence[str], thresholds: Sequence[float] = ()
) -> Findings:
    """Of probabilities (N, C) for classes (N,).

    `thresholds` (C,), below which a class is not answered: they move the figures of the classes, and add how many are
    answered, and how often rightly.
    """
    classes, answers, confidence = np.arange(len(names)), probabilities.argmax(1), probabilities.max(1)
    right = answers == targets
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (targets, answers), 1)
    scores = [share("accuracy", right), _of_confusion("balanced_accuracy", confusion)]
    scores.append(_of_confusion("macro_f1", confusion))
    if len(names) > _TOP:
        order = np.argsort(-probabilities, axis=1, kind="stable")
        scores.append(share(f"top{_TOP}_accuracy", (order[:, :_TOP] == targets[:, None]).any(1)))
    answered = answers[:, None] == classes
    if len(thresholds):
        sure = confidence >= np.asarray(thresholds)[answers]
        answered &= sure[:, None]
        scores.append(share("answered", sure))
        scores += [share("accuracy_answered", right[sure])] if sure.any() else []
    per_class = class_rows(probabilities, targets[:, None] == classes, answered, names)
    bins = calibration.reliability(confidence, right)
    scores += [*means(per_class), Score("calibration_error_scaled", calibration.expected_error(bins))]
    wrong = np.flatnonzero(~right)
    worst = np.argsort(probabilities[wrong, targets[wrong]], kind="stable")
    tables = {"classes": per_class, "reliability": bins, "abstention": calibration.abstention(confidence, right)}
    surest = typical(probabilities, answered & right[:, None])
    return Findings(scores, tables, wrong[worst].tolist(), surest, confusion.tolist())


def typical(probabilities: np.ndarray, right: np.ndarray) -> list[int]:
    """The place of the surest right answer of each class, of (N, C) both; classes without one are left out."""
    sure = np.where(right, probabilities, -np.inf)
    places = sure.argmax(0)
    return [int(place) for k, place in enumerate(places) if np.isfinite(sure[place, k])]


def share(name: str, right: np.ndarray) -> Score:
    """How many of (N,) are right, with Wilson's interval."""
    return Score(name, float(right.mean()), *wilson(int(right.sum()), len(right)))


def class_rows(
    probabilities: np.ndarray, true: np.ndarray, answered: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Precision, recall, F1, support, AUROC and average precision of each class; all arrays (N, C).

    None stands for what has no value: recall where there is no sample, precision where there is no answer.
    """
    rows = []
    for k, name in enumerate(names):
        hits, said, support = int((true[:, k] & answered[:, k]).sum()), int(answered[:, k].sum()), int(true[:, k].sum())
        both = 0 < support < len(true)
        rows.append(
            {
                "class": name,
                "precision": hits / said if said else None,
                "recall": hits / support if support else None,
                "f1": 2 * hits / (said + support) if said + support else None,
                "support": support,
                "auroc": float(roc_auc_score(true[:, k], probabilities[:, k])) if both else None,
                "average_precision": float(average_precision_score(true[:, k], probabilities[:, k])) if both else None,
            }
        )
    return rows


def means(rows: Sequence[dict[str, Any]]) -> list[Score]:
    """AUROC and average precision, means over the classes that have them."""
    scores = []
    for key in ("auroc", "average_precision"):
        if values := [row[key] for row in rows if row[key] is not None]:
            scores.append(Score(f"macro_{key}", float(np.mean(values))))
    return scores


def _of_confusion(name: str, confusion: np.ndarray) -> Score:
    statistic = {"balanced_accuracy": _balanced_accuracy, "macro_f1": _macro_f1}[name]
    return Score(name, float(statistic(confusion[None])[0]), *of_confusion(confusion, statistic))


def _balanced_accuracy(counts: np.ndarray) -> np.ndarray:
    """(B,): the mean recall of the classes that have samples, of counts (B, C, C)."""
    hits, support = np.diagonal(counts, axis1=1, axis2=2), counts.sum(2)
    return _mean(hits / np.maximum(support, 1), support > 0)


def _macro_f1(counts: np.ndarray) -> np.ndarray:
    """(B,): the mean F1 of the classes that have samples or answers, of counts (B, C, C)."""
    hits, either = np.diagonal(counts, axis1=1, axis2=2), counts.sum(1) + counts.sum(2)
    return _mean(2 * hits / np.maximum(either, 1), either > 0)


def _mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    mean: np.ndarray = (values * where).sum(1) / where.sum(1)
    return mean
