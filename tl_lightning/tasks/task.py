"""A task: all that is known of what the labels are, in one object."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from tl_lightning.errors import UserError
from tl_lightning.targets import name_of

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

    from tl_lightning.evaluation.calibration import Calibration
    from tl_lightning.evaluation.findings import Findings
    from tl_lightning.evaluation.label_errors import Suspect
    from tl_lightning.evaluation.thresholds import Aim
    from tl_lightning.heads.solve import Solution


@dataclass(frozen=True)
class Labels:
    """Label cells as they stand beside the samples.

    `names`: they are names, as of folders, and whatever looks like a number is none. `separator` stands between the
    classes of a cell that may hold several. `columns`: of a table; values of several stand in one cell, a semicolon
    between them. `where` says for errors where they come from.
    """

    cells: tuple[str, ...]
    where: str
    names: bool = False
    separator: str = ""
    columns: tuple[str, ...] = ("label",)


BETWEEN = ";"  # the values of several columns in one label
MakeTask = Callable[[Labels], tuple["Task", list[str]]]  # the task for labels, and the labels as it reads them


def smoothing(label_smoothing: float | None, from_exact_head: bool) -> float:
    """What was asked for; of None, 0.1, or 0 from an exact head: measured in docs/strategies.md."""
    if label_smoothing is not None:
        return label_smoothing
    return 0.0 if from_exact_head else 0.1


def natural(name: str) -> list[Any]:
    """A key that sorts 2 before 10, and names that differ in zeros alone by their letters."""
    parts = re.split(r"([0-9]+)", name)
    return [*((int(p), "") if i % 2 else (-1, p) for i, p in enumerate(parts)), (-2, name)]


@dataclass(frozen=True)
class Task:
    """What is asked of the outputs (N, C) of a network, one for each name in `outputs`.

    `monitor` is the score by which epochs are compared. `shown`: scores for people, with their names. `picture` names
    the figure of `overview` (reports/figures.py). `may_lack`: an empty label is a target, too.
    """

    outputs: tuple[str, ...] = ()

    noun: ClassVar[str] = "outputs"
    monitor: ClassVar[str] = "val/accuracy"
    shown: ClassVar[Mapping[str, str]] = {}
    picture: ClassVar[str] = ""
    may_lack: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", tuple(self.outputs))  # a file gives a list

    # What the labels are

    def naming(self, labels: Sequence[str]) -> Self:
        """The task with the outputs that these labels call for."""
        return replace(self, outputs=tuple(sorted({n for label in labels for n in self.members(label)}, key=natural)))

    def members(self, label: str) -> list[str]:
        """The outputs of which a label is an example, for counting."""
        raise NotImplementedError

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        """Targets (N,) or (N, C) of so many labels."""
        raise NotImplementedError

    def strata(self, labels: Sequence[str]) -> tuple[list[str], set[int]]:
        """Among which samples each is drawn for a split, and the places of those that stay to be trained on."""
        return list(labels), set()

    def refuse_unusable(self, where: str, noun: str, train: Mapping[str, int]) -> None:
        """Raise UserError for labels that cannot be learned; `train`: samples of each output in the training split."""

    # What is learned from them

    def fitted(self, targets: np.ndarray, sampler: str, class_weights: Any) -> Self:
        """The task as the training targets (N,) or (N, C) and the options of the data make it.

        Raises UserError for options that have no meaning here.
        """
        if sampler != "none" or class_weights not in ("none", None):
            raise UserError("data.sampler and data.class_weights are for samples of one class each: leave them out")
        return self

    def refuse_few_shot(self) -> None:
        """Raise UserError where data.max_per_class has no meaning."""

    def sample_weights(self, targets: np.ndarray) -> Tensor:
        """(N,): how often a balanced sampler draws each training sample. Raises UserError where that means nothing."""
        raise UserError("data.sampler=balanced is for samples of one class each: leave it out")

    def start(self) -> Tensor:
        """(C,): what the outputs should be before anything is known of a sample."""
        return torch.zeros(len(self.outputs))

    def with_smoothing(self, from_exact_head: bool) -> Self:
        """The task as it is trained from an exact head, or from one that knows nothing."""
        return self

    def training_loss(self) -> nn.Module:
        """Loss of outputs (N, C) for targets, a scalar, as it is trained on."""
        return self.evaluation_loss()

    def evaluation_loss(self) -> nn.Module:
        """Loss of outputs (N, C) for targets, a scalar, as it is reported."""
        raise NotImplementedError

    def predictions(self, outputs: Tensor) -> Tensor:
        """(N, C): probabilities, or values in their own units, of outputs (N, C)."""
        raise NotImplementedError

    def true(self, targets: Tensor) -> Tensor:
        """Targets (N,) or (N, C) as metrics want them."""
        return targets

    def answers(self, predictions: np.ndarray, thresholds: Sequence[float] = ()) -> list[Any]:
        """What predictions (N, C) say, for people: a class, a list of classes, a value.

        `thresholds` (C,), if there are any: the probabilities from which on a class is answered.
        """
        raise NotImplementedError

    def rows(self, predictions: np.ndarray, thresholds: Sequence[float] = (), top: int = 1) -> list[dict[str, Any]]:
        """Predictions (N, C) as rows of a table: the answer and the numbers behind it; `top`: how many classes."""
        raise NotImplementedError

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,): how right each of the outputs (N, C) is, the higher the better; for choosing between weights."""
        raise NotImplementedError

    def mixer(self, mixup: float, cutmix: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        """What mixes images (N, 3, H, W) and targets; None for nothing. Raises UserError if targets cannot be mixed."""
        if mixup or cutmix:
            raise UserError("augment.mixup and augment.cutmix mix classes: set them to 0 for this task")
        return None

    def solve(
        self, rows: np.ndarray, targets: np.ndarray, last: int | None = None, weights: np.ndarray | None = None
    ) -> Solution:
        """The exact linear head on features (N, D), of which the `last` columns are those of the last stage.

        `weights` (N,): what each sample counts. Raises UserError if there is none.
        """
        raise UserError("for this task no head can be solved exactly: take another strategy")

    def class_targets(self, targets: np.ndarray) -> np.ndarray:
        """Targets as classes (N,), or as several (N, C). Raises UserError where they are none."""
        return self.class_indices(targets)

    def class_indices(self, targets: np.ndarray) -> np.ndarray:
        """Targets as one class each (N,), for what compares classes. Raises UserError where they are none."""
        raise UserError("what stages tell of the classes is measured where every sample has one: name a strategy")

    # How it is judged

    def scores(self) -> MetricCollection:
        """Metrics that take predictions (N, C) and targets."""
        raise NotImplementedError

    def overview(self) -> Metric | None:
        """A metric of which `picture` is drawn, taking what `scores` take; None for nothing."""
        return None

    def temperature(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """By which outputs (N, C) are divided so that predictions mean what they say; 1 where they are no logits."""
        return 1.0

    def thresholds(self, aim: Aim, predictions: np.ndarray, targets: np.ndarray) -> list[float]:
        """(C,): from which probability on each class is answered. Raises UserError where there are no probabilities."""
        raise UserError("threshold=... is for classes: leave it out")

    def judge(self, predictions: np.ndarray, targets: np.ndarray, kept: Calibration) -> Findings:
        """How right predictions (N, C), made with what was `kept`, are for targets (N,) or (N, C)."""
        raise NotImplementedError

    def suspects(self, predictions: np.ndarray, targets: np.ndarray) -> list[Suspect]:
        """Labels that are probably wrong, given predictions (N, C) by models that have not seen them; the worst first.

        None where labels are no classes.
        """
        return []

    def reported(self, scores: Mapping[str, Tensor], overview: Tensor | None) -> dict[str, Tensor]:
        """Those of the scores (scalars) that say something, given what `overview` has found."""
        return dict(scores)

    def scored(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """What is reported of outputs (N, C) for targets (N,) or (N, C), by name."""
        scores, overview = self.scores(), self.overview()
        predictions, true = self.predictions(outputs), self.true(targets)
        scores.update(predictions, true)
        if overview is not None:
            overview.update(predictions, true)
        found = self.reported(scores.compute(), None if overview is None else overview.compute())
        return {name: float(value) for name, value in found.items()}

    def rises(self, score: str) -> bool:
        """Whether a score is the better the higher it is."""
        return score.rpartition("/")[2] not in ("loss", "loss_epoch", "loss_step", "calibration_error", "kl")

    def mode(self, score: str) -> str:
        """The same in the words of Lightning's callbacks: "max" or "min"."""
        return "max" if self.rises(score) else "min"

    def score_names(self) -> list[str]:
        """All that is reported of validation, as monitors name it."""
        names = ["val/loss", "train/loss_epoch"]
        for name, metric in self.scores().items():
            labels = getattr(metric, "labels", None)  # one value for each of the outputs
            names += [f"val/{name}/{label}" for label in labels] if labels else [f"val/{name}"]
        return names

    def facts(self) -> dict[str, Any]:
        """What a run keeps of it, as it is built again."""
        return {"_target_": name_of(type(self)), "outputs": list(self.outputs)}
