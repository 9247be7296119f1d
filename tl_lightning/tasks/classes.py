"""One class for each sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from tl_lightning import checks
from tl_lightning.errors import UserError
from tl_lightning.tasks.class_names import class_names, refuse_classes
from tl_lightning.tasks.class_weights import loss_weights
from tl_lightning.tasks.task import Labels, Task, smoothing

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

    from tl_lightning.evaluation.calibration import Calibration
    from tl_lightning.evaluation.findings import Findings
    from tl_lightning.evaluation.label_errors import Suspect
    from tl_lightning.evaluation.thresholds import Aim
    from tl_lightning.heads.solve import Solution

_READ = 200  # classes, up to which each has figures of its own


def classification(labels: Labels, *, label_smoothing: float | None = None) -> tuple[Task, list[str]]:
    """The task of telling classes apart, and the labels as class names; whole numbers written as 1.0 become 1.

    Raises UserError for measurements, and for labels of which nearly every one is another.
    """
    return Classification(label_smoothing=label_smoothing), class_names(labels)


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

    def answers(self, predictions: np.ndarray, thresholds: Sequence[float] = ()) -> list[str]:
        """The likeliest class of each row of (N, C); nothing ("") where it is below its threshold (C,)."""
        least = np.asarray(thresholds or [0.0] * len(self.outputs))
        best = predictions.argmax(1)
        sure = predictions[range(len(best)), best] >= least[best]
        return [self.outputs[i] if enough else "" for i, enough in zip(best, sure, strict=True)]

    def rows(self, predictions: np.ndarray, thresholds: Sequence[float] = (), top: int = 1) -> list[dict[str, Any]]:
        """The class of each row of (N, C), its probability, how far the second is, and the others of the `top` classes.

        Where there are thresholds, so that there may be no class, the likeliest one, too.
        """
        order = np.argsort(-predictions, axis=1, kind="stable")
        found = []
        for row, places, answer in zip(predictions, order, self.answers(predictions, thresholds), strict=True):
            first, second = (float(row[place]) for place in places[:2])
            said = {"class": answer, "probability": first, "margin": first - second}
            if thresholds:
                said["likeliest"] = self.outputs[places[0]]
            for k, place in enumerate(places[1:top], 2):
                said |= {f"class_{k}": self.outputs[place], f"probability_{k}": float(row[place])}
            found.append(said)
        return found

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

    def solve(
        self, rows: np.ndarray, targets: np.ndarray, last: int | None = None, weights: np.ndarray | None = None
    ) -> Solution:
        """Multinomial logistic regression on features (N, D), each class counting as in training."""
        from tl_lightning.heads.solve import solve_classes

        counts = torch.tensor(self.counts, dtype=torch.float32)
        by_class = self.prior() * counts.sum() / counts  # by loss weights and by sampling; mean 1 over samples
        return solve_classes(rows, targets, len(self.outputs), by_class, last, weights)

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

    def temperature(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """By which logits (N, C) are divided to be likeliest for targets (N,)."""
        from tl_lightning.evaluation import calibration

        return calibration.temperature(lambda t: calibration.cross_entropy(outputs / t, targets))

    def thresholds(self, aim: Aim, predictions: np.ndarray, targets: np.ndarray) -> list[float]:
        """(C,): from which probability on each class is the answer, from predictions (N, C) and targets (N,).

        Raises UserError for a class that reaches the aim nowhere.
        """
        from tl_lightning.evaluation.thresholds import choose

        classes = np.arange(len(self.outputs))
        answered = predictions.argmax(1)[:, None] == classes
        return choose(aim, predictions, answered, targets[:, None] == classes, self.outputs)

    def judge(self, predictions: np.ndarray, targets: np.ndarray, kept: Calibration) -> Findings:
        """How right probabilities (N, C) are for targets (N,)."""
        from tl_lightning.evaluation import single_label

        return single_label.judge(predictions, targets, self.outputs, kept.thresholds)

    def suspects(self, predictions: np.ndarray, targets: np.ndarray) -> list[Suspect]:
        """Labels (N,) that are probably wrong, given probabilities (N, C) by models that have not seen them."""
        from tl_lightning.evaluation import label_errors

        return label_errors.of_classes(predictions, targets, self.outputs)

    def reported(self, scores: Mapping[str, Tensor], overview: Tensor | None) -> dict[str, Tensor]:
        """All but the recall of classes of which there is no sample, by the confusion matrix (C, C)."""
        counts = [1] * len(self.outputs) if overview is None else overview.sum(1).tolist()
        present = dict(zip(self.outputs, counts, strict=True))
        return {k: v for k, v in scores.items() if present.get(k.partition("/recall/")[2], 1)}
