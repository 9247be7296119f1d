"""What a classifier is judged by, from torchmetrics."""

from collections.abc import Sequence

from torchmetrics import ClasswiseWrapper, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassRecall,
    MultilabelExactMatch,
    MultilabelF1Score,
    MultilabelRecall,
)


def classification(classes: Sequence[str]) -> MetricCollection:
    """Accuracy, macro-F1, calibration error (15 bins) and recall per class, from logits (N, C) and labels (N,)."""
    n = len(classes)
    members: dict[str, Metric | MetricCollection] = {
        "accuracy": MulticlassAccuracy(n, average="micro"),
        "macro_f1": MulticlassF1Score(n, average="macro"),
        "calibration_error": MulticlassCalibrationError(n),
        "recall": ClasswiseWrapper(MulticlassRecall(n, average=None), labels=list(classes), prefix="recall/"),
    }
    # in a compute group the wrapped recall would not know that it had been updated, and warn at every epoch
    return MetricCollection(members, compute_groups=False)


def multilabel(classes: Sequence[str]) -> MetricCollection:
    """Accuracy (all labels right), macro-F1 and recall per class, from probabilities (N, C) and labels (N, C)."""
    n = len(classes)
    members: dict[str, Metric | MetricCollection] = {
        "accuracy": MultilabelExactMatch(n),
        "macro_f1": MultilabelF1Score(n, average="macro"),
        "recall": ClasswiseWrapper(MultilabelRecall(n, average=None), labels=list(classes), prefix="recall/"),
    }
    return MetricCollection(members, compute_groups=False)


def confusion(classes: Sequence[str]) -> MulticlassConfusionMatrix:
    """Counts (C, C): row the true class, column the predicted one."""
    return MulticlassConfusionMatrix(len(classes))
