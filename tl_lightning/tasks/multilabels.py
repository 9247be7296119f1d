"""Several classes, or none, for each sample."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from tl_lightning import checks
from tl_lightning.errors import UserError
from tl_lightning.tasks.binary_cross_entropy import BinaryCrossEntropy
from tl_lightning.tasks.class_names import refuse_classes
from tl_lightning.tasks.class_weights import positive_weights
from tl_lightning.tasks.indicator_columns import are_indicators, of_indicators
from tl_lightning.tasks.task import Labels, Task, smoothing

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

    from tl_lightning.evaluation.calibration import Calibration
    from tl_lightning.evaluation.findings import Findings
    from tl_lightning.evaluation.label_errors import Suspect
    from tl_lightning.evaluation.thresholds import Aim
    from tl_lightning.heads.solve import Solution

log = logging.getLogger(__name__)

_HALF = 0.5
_OF_CLASSES = ("average_precision", "f1", "recall")  # what is said of each class
_READ = 200  # classes, up to which each has figures of its own
_OFTEN = 10  # samples of the same set of classes, from which on they are drawn by themselves


def multilabel(labels: Labels, *, label_smoothing: float | None = None) -> tuple[Task, list[str]]:
    """The task of naming all classes of a sample, and the labels with their classes sorted.

    Raises UserError where nothing says what separates the classes.
    """
    if len(labels.columns) > 1 and are_indicators(labels.cells):
        labels = of_indicators(labels)
    separator = labels.separator
    if not separator:
        raise UserError(f"{labels.where}: task=multilabel needs data.separator, what stands between the classes")
    if not any(separator in cell for cell in labels.cells):
        log.warning(f"data.separator={separator} stands in no label: each sample has one class")
    task = Multilabel(separator=separator, label_smoothing=label_smoothing)
    return task, [separator.join(task.members(cell)) for cell in labels.cells]


@dataclass(frozen=True)
class Multilabel(Task):
    """Logits (N, C), of which each is a question by itself; targets (N, C) of 0 and 1.

    `separator` stands between the classes in a label. `label_smoothing` moves targets towards one half. `odds` (C,) of
    each class among the training samples, `positive` (C,): what its samples count in the loss, against 1 of all others.
    """

    separator: str = "|"
    label_smoothing: float | None = 0.0
    odds: tuple[float, ...] = ()
    positive: Tensor | None = None

    noun: ClassVar[str] = "classes"
    shown: ClassVar[Mapping[str, str]] = {
        "accuracy": "all right", "macro_f1": "macro-F1", "macro_average_precision": "mAP",
    }  # fmt: skip
    picture: ClassVar[str] = "classes"
    may_lack: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("label_smoothing", self.label_smoothing, 0, 1, optional=True)

    def members(self, label: str) -> list[str]:
        """The classes that stand in one label, each once, sorted."""
        return sorted({name.strip() for name in label.split(self.separator)} - {""})

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        """(N, C) of 0 and 1."""
        index = {name: i for i, name in enumerate(self.outputs)}
        targets = np.zeros((len(labels), len(self.outputs)), np.float32)
        for row, label in zip(targets, labels, strict=True):
            row[[index[name] for name in self.members(label)]] = 1
        return targets

    def strata(self, labels: Sequence[str]) -> tuple[list[str], set[int]]:
        """Sets of classes that are rare are drawn together; the first sample of each class is one to train on."""
        often = Counter(labels)
        first: dict[str, int] = {}
        for i, label in enumerate(labels):
            for name in self.members(label):
                first.setdefault(name, i)
        return [label if often[label] >= _OFTEN else "" for label in labels], set(first.values())

    def refuse_unusable(self, where: str, noun: str, train: Mapping[str, int]) -> None:
        """Raise UserError for less than two classes, or one without a sample to train on."""
        refuse_classes(where, noun, train)

    def fitted(self, targets: np.ndarray, sampler: str, class_weights: Any) -> Self:
        """The task with the odds of its classes among the training targets (N, C).

        Raises UserError for a sampler, and for weights that cannot be meant.
        """
        task = super().fitted(targets, sampler, "none")
        counts = torch.tensor(targets.sum(0), dtype=torch.float32)
        odds = (counts + 0.5) / (len(targets) - counts + 0.5)
        positive = positive_weights(class_weights, self.outputs, odds)
        return replace(task, odds=tuple(odds.tolist()), positive=positive)

    def start(self) -> Tensor:
        """(C,): log odds of each class, as the training loss sees them."""
        odds = torch.tensor(self.odds or (1.0,) * len(self.outputs))
        return (odds if self.positive is None else odds * self.positive).log()

    def with_smoothing(self, from_exact_head: bool) -> Self:
        """The task with its smoothing decided: none where it would pull a fitted head off its own optimum."""
        return replace(self, label_smoothing=smoothing(self.label_smoothing, from_exact_head))

    def training_loss(self) -> nn.Module:
        """Binary cross-entropy with smoothing and the weights of each class."""
        return BinaryCrossEntropy(self.label_smoothing or 0.0, self.positive)

    def evaluation_loss(self) -> nn.Module:
        """Binary cross-entropy of logits (N, C) for targets (N, C)."""
        return BinaryCrossEntropy()

    def predictions(self, outputs: Tensor) -> Tensor:
        """The probability of each class (N, C), from logits (N, C)."""
        return outputs.sigmoid()

    def true(self, targets: Tensor) -> Tensor:
        """Targets (N, C) as whole numbers."""
        return targets.int()

    def answers(self, predictions: np.ndarray, thresholds: Sequence[float] = ()) -> list[list[str]]:
        """The classes of each row of (N, C) that are above one half, or reach their threshold (C,)."""
        said = predictions >= np.asarray(thresholds) if thresholds else predictions > _HALF
        return [[self.outputs[i] for i in np.flatnonzero(row)] for row in said]

    def rows(self, predictions: np.ndarray, thresholds: Sequence[float] = (), top: int = 1) -> list[dict[str, Any]]:
        """The classes of each row of (N, C), and the probability of every one."""
        answers = self.answers(predictions, thresholds)
        return [
            {"classes": self.separator.join(answer), **dict(zip(self.outputs, row.tolist(), strict=True))}
            for answer, row in zip(answers, predictions, strict=True)
        ]

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,): whether all classes of a sample are right, from logits and targets (N, C)."""
        return ((outputs > 0) == targets.bool()).all(1).float()

    def temperature(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """By which logits (N, C) are divided to be likeliest for targets (N, C)."""
        from tl_lightning.evaluation import calibration

        return calibration.temperature(lambda t: calibration.binary_cross_entropy(outputs / t, targets))

    def thresholds(self, aim: Aim, predictions: np.ndarray, targets: np.ndarray) -> list[float]:
        """(C,): from which probability on each class is named, from predictions and targets (N, C).

        Raises UserError for a class that reaches the aim nowhere.
        """
        from tl_lightning.evaluation.thresholds import choose

        return choose(aim, predictions, np.ones(predictions.shape, bool), targets, self.outputs)

    def judge(self, predictions: np.ndarray, targets: np.ndarray, kept: Calibration) -> Findings:
        """How right probabilities (N, C) are for targets (N, C)."""
        from tl_lightning.evaluation import multi_label

        return multi_label.judge(predictions, targets, self.outputs, kept.thresholds)

    def suspects(self, predictions: np.ndarray, targets: np.ndarray) -> list[Suspect]:
        """Labels (N, C) that are probably wrong, given probabilities (N, C) by models that have not seen them."""
        from tl_lightning.evaluation import label_errors

        return label_errors.of_several(predictions, targets, self.outputs)

    def class_targets(self, targets: np.ndarray) -> np.ndarray:
        """The targets (N, C) themselves."""
        return targets

    def solve(
        self, rows: np.ndarray, targets: np.ndarray, last: int | None = None, weights: np.ndarray | None = None
    ) -> Solution:
        """A logistic regression on features (N, D) for each class, weighted as in training."""
        from tl_lightning.heads.solve import solve_labels

        return solve_labels(rows, targets, last, weights, self.positive)

    def scores(self) -> MetricCollection:
        """Accuracy (all classes right), macro-F1, mAP, F1 and recall per class, from probabilities, targets (N, C)."""
        from torchmetrics import ClasswiseWrapper, MetricCollection
        from torchmetrics.classification import (
            MultilabelAveragePrecision,
            MultilabelExactMatch,
            MultilabelF1Score,
            MultilabelRecall,
        )

        n = len(self.outputs)
        members: dict[str, Any] = {"accuracy": MultilabelExactMatch(n), "macro_f1": MultilabelF1Score(n)}
        if n <= _READ:
            members["macro_average_precision"] = MultilabelAveragePrecision(n)
            kinds = (MultilabelAveragePrecision, MultilabelF1Score, MultilabelRecall)
            for name, kind in zip(_OF_CLASSES, kinds, strict=True):
                members[name] = ClasswiseWrapper(kind(n, average=None), labels=list(self.outputs), prefix=f"{name}/")
        return MetricCollection(members, compute_groups=False)

    def overview(self) -> Metric | None:
        """Counts (C, 2, 2) of each class: row whether it is there, column whether it was answered."""
        if len(self.outputs) > _READ:
            return None
        from torchmetrics.classification import MultilabelConfusionMatrix

        return MultilabelConfusionMatrix(len(self.outputs))

    def reported(self, scores: Mapping[str, Tensor], overview: Tensor | None) -> dict[str, Tensor]:
        """All but what is said of classes without a sample, which have no precision, by the counts (C, 2, 2)."""
        if overview is None:
            return dict(scores)
        present = dict(zip(self.outputs, overview[:, 1].sum(1).tolist(), strict=True))
        found = {k: v for k, v in scores.items() if present.get(_class_of(k), 1)}
        number = sum(count > 0 for count in present.values())
        for name in found:
            if name.endswith("macro_average_precision"):  # torchmetrics counts what is not there as 0
                found[name] = found[name] * len(present) / max(number, 1)
        return found


def _class_of(score: str) -> str:
    """The class that a score is of; empty for one of all."""
    return next((score.partition(f"{name}/")[2] for name in _OF_CLASSES if f"{name}/" in score), "")
