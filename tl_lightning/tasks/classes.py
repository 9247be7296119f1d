"""One class for each sample."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from tl_lightning import checks
from tl_lightning.errors import UserError
from tl_lightning.tasks.class_weights import loss_weights
from tl_lightning.tasks.task import Labels, Task, smoothing

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

    from tl_lightning.heads.solve import Solution

log = logging.getLogger(__name__)

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_READ = 200  # classes, up to which each has figures of its own
_POINT_ZERO = re.compile(r"-?\d+\.0+")


def classification(labels: Labels, *, label_smoothing: float | None = None) -> tuple[Task, list[str]]:
    """The task of telling classes apart, and the labels as class names; whole numbers written as 1.0 become 1.

    Raises UserError for measurements, and for labels of which nearly every one is another.
    """
    cells = list(labels.cells)
    if labels.names:
        return Classification(label_smoothing=label_smoothing), cells
    cells = [cell.strip() for cell in cells]
    if all(NUMBER.fullmatch(cell) for cell in cells if cell):
        if strange := [cell for cell in cells if cell and not float(cell).is_integer()]:
            raise UserError(f"{labels.where} holds numbers there, like {strange[0]}, and no names of classes")
        cells = [re.sub(r"\.0*$", "", cell) for cell in cells]
    cells = _one_form(cells)
    different = len(set(cells))
    if different > max(50, len(cells) // 2):
        raise UserError(f"{labels.where} has {different} different ones in {len(cells)} rows, too many to be classes")
    return Classification(label_smoothing=label_smoothing), cells


def _one_form(cells: list[str]) -> list[str]:
    """The names in Unicode's composed form, and a name like 1.0 as 1 where both stand for one class."""
    cells = [unicodedata.normalize("NFC", cell) for cell in cells]
    known = set(cells)
    twins = {name: name.partition(".")[0] for name in known if _POINT_ZERO.fullmatch(name)}
    if same := {name: whole for name, whole in twins.items() if whole in known}:
        shown = ", ".join(f"{name} and {whole}" for name, whole in list(same.items())[:3])
        log.warning(f"classes that are one number in two forms are one class: {shown}")
    return [same.get(cell, cell) for cell in cells]


@dataclass(frozen=True)
class Classification(Task):
    """Logits (N, C), targets (N,).

    `counts` (C,) of training samples, the `weights` (C,) of their loss, and whether a balanced sampler draws them.
    """

    label_smoothing: float | None = 0.0
    counts: tuple[int, ...] = ()
    weights: Tensor | None = None
    balanced: bool = False

    noun: ClassVar[str] = "classes"
    shown: ClassVar[Mapping[str, str]] = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
    picture: ClassVar[str] = "confusion"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("label_smoothing", self.label_smoothing, 0, 1, optional=True)

    def members(self, label: str) -> list[str]:
        """The class."""
        return [label]

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        """Class indices (N,)."""
        index = {name: i for i, name in enumerate(self.outputs)}
        return np.array([index[label] for label in labels], np.int64)

    def refuse_unusable(self, where: str, noun: str, train: Mapping[str, int]) -> None:
        """Raise UserError for less than two classes, or one without a sample to train on."""
        refuse_classes(where, noun, train)

    def fitted(self, targets: np.ndarray, sampler: str, class_weights: Any) -> Self:
        """The task with the frequencies of its classes in targets (N,).

        Raises UserError for weights that cannot be meant.
        """
        if sampler == "balanced" and class_weights == "auto":
            raise UserError(
                "data.sampler=balanced and data.class_weights=auto correct the same twice: take one of them"
            )
        counts = np.bincount(targets, minlength=len(self.outputs))
        weights = loss_weights(class_weights, self.outputs, torch.tensor(counts, dtype=torch.float32))
        return replace(self, counts=tuple(counts.tolist()), weights=weights, balanced=sampler == "balanced")

    def sample_weights(self, targets: np.ndarray) -> Tensor:
        """(N,): weights with which all classes are drawn equally often."""
        counts = torch.bincount(torch.as_tensor(targets)).clamp(min=1)
        return 1.0 / counts[torch.as_tensor(targets)].double()

    def prior(self) -> Tensor:
        """Class probabilities (C,) as the training loss sees them; all alike where nothing was counted."""
        if not self.counts:
            return torch.full((len(self.outputs),), 1 / len(self.outputs))
        counts = torch.tensor(self.counts, dtype=torch.float32)
        seen = torch.ones_like(counts) if self.balanced else counts
        seen = seen if self.weights is None else seen * self.weights
        return seen / seen.sum()

    def start(self) -> Tensor:
        """(C,): log p(class)."""
        return self.prior().log()

    def with_smoothing(self, from_exact_head: bool) -> Self:
        """The task with its smoothing decided: none where it would pull a fitted head off its own optimum."""
        return replace(self, label_smoothing=smoothing(self.label_smoothing, from_exact_head))

    def training_loss(self) -> nn.Module:
        """Cross-entropy with smoothing and class weights, for targets (N,) or, after mixing, (N, C)."""
        return nn.CrossEntropyLoss(self.weights, label_smoothing=self.label_smoothing or 0.0)

    def evaluation_loss(self) -> nn.Module:
        """Cross-entropy of logits (N, C) for targets (N,)."""
        return nn.CrossEntropyLoss()

    def predictions(self, outputs: Tensor) -> Tensor:
        """Probabilities (N, C) of logits (N, C)."""
        return outputs.softmax(1)

    def answers(self, predictions: np.ndarray) -> list[str]:
        """The likeliest class of each row of (N, C)."""
        return [self.outputs[i] for i in predictions.argmax(1)]

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,): whether the largest of the logits (N, C) is the target's (N,)."""
        return (outputs.argmax(1) == targets).float()

    def mixer(self, mixup: float, cutmix: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        """What mixes a batch (images (N, 3, H, W), targets (N,)) into (images, soft targets (N, C))."""
        from torchvision.transforms import v2

        ways = [v2.MixUp(alpha=mixup, num_classes=len(self.outputs))] if mixup else []
        ways += [v2.CutMix(alpha=cutmix, num_classes=len(self.outputs))] if cutmix else []

        def mix(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            way = ways[int(torch.randint(len(ways), ()))]
            mixed: tuple[Tensor, Tensor] = way(images, targets)
            return mixed

        return mix if ways else None

    def solve(self, rows: np.ndarray, targets: np.ndarray, last: int | None = None) -> Solution:
        """Multinomial logistic regression on features (N, D), each class counting as in training."""
        from tl_lightning.heads.solve import solve_classes

        counts = torch.tensor(self.counts, dtype=torch.float32)
        by_class = self.prior() * counts.sum() / counts  # by loss weights and by sampling; mean 1 over samples
        return solve_classes(rows, targets, len(self.outputs), by_class, last)

    def class_indices(self, targets: np.ndarray) -> np.ndarray:
        """The targets (N,) themselves."""
        return targets

    def scores(self) -> MetricCollection:
        """Accuracy, macro-F1, calibration error (15 bins) and recall per class, from probabilities (N, C).

        Of more than 200 classes nobody reads the recall of each, and writing it takes longer than an epoch.
        """
        from torchmetrics import ClasswiseWrapper, MetricCollection
        from torchmetrics.classification import (
            MulticlassAccuracy,
            MulticlassCalibrationError,
            MulticlassF1Score,
            MulticlassRecall,
        )

        n = len(self.outputs)
        members: dict[str, Any] = {
            "accuracy": MulticlassAccuracy(n, average="micro"),
            "macro_f1": MulticlassF1Score(n, average="macro"),
            "calibration_error": MulticlassCalibrationError(n),
        }
        if n <= _READ:
            recall = MulticlassRecall(n, average=None)
            members["recall"] = ClasswiseWrapper(recall, labels=list(self.outputs), prefix="recall/")
        # in a compute group the wrapped recall would not know that it had been updated, and warn at every epoch
        return MetricCollection(members, compute_groups=False)

    def overview(self) -> Metric | None:
        """Counts (C, C): row the true class, column the predicted one; nothing for more than 200 classes."""
        if len(self.outputs) > _READ:
            return None
        from torchmetrics.classification import MulticlassConfusionMatrix

        return MulticlassConfusionMatrix(len(self.outputs))

    def reported(self, scores: Mapping[str, Tensor], overview: Tensor | None) -> dict[str, Tensor]:
        """All but the recall of classes of which there is no sample, by the confusion matrix (C, C)."""
        counts = [1] * len(self.outputs) if overview is None else overview.sum(1).tolist()
        present = dict(zip(self.outputs, counts, strict=True))
        return {k: v for k, v in scores.items() if present.get(k.partition("/recall/")[2], 1)}


def refuse_classes(where: str, noun: str, train: Mapping[str, int]) -> None:
    """Raise UserError for less than two classes, or one without a sample to train on."""
    if not train:
        raise UserError(f"{where} holds no labelled {noun}")
    if len(train) < 2:
        raise UserError(f"{where} holds one class only, '{next(iter(train))}': a classifier needs two or more")
    if empty := [name for name, count in train.items() if count == 0]:
        raise UserError(f"class '{empty[0]}' has no usable {noun} to train on: add some, or remove it")
