"""What a report shows, in TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from tl_lightning.jobs.evaluate import Evaluation
from tl_lightning.jobs.judge import Judge
from tl_lightning.reports import charts, writers

_CURVES = 20  # classes with a precision-recall curve
_SPRITE = 32  # pixels of an image in the projector
_AT_ONCE = 64


def show(
    loggers: Iterable[Logger],
    judge: Judge,
    found: Mapping[str, Evaluation],
    features: tuple[Tensor, Tensor] | None,
) -> None:
    """Each split's figures and precision-recall curves; the projector: places (M,) in val and features (M, D)."""
    loggers = list(loggers)
    if not writers.takes_pictures(loggers):
        return
    for split, evaluation in found.items():
        tables = evaluation.findings.tables
        if "reliability" in tables:
            writers.add_figure(loggers, f"{split}/reliability", charts.reliability(tables["reliability"]))
        if "classes" in tables:
            writers.add_figure(loggers, f"{split}/classes", charts.bars(tables["classes"]))
            _add_curves(loggers, judge, split)
    if features is not None:
        _add_projector(loggers, judge, *features)


def _add_curves(loggers: Iterable[Logger], judge: Judge, split: str) -> None:
    task, outputs = judge.data.task, judge.outputs(split)
    probabilities = task.predictions(outputs.values)
    members = [set(task.members(label)) for label in outputs.labels]
    for k, name in enumerate(task.outputs[:_CURVES]):
        true = torch.tensor([name in found for found in members])
        writers.add_pr_curve(loggers, f"{split}/{name}", true, probabilities[:, k])


def _add_projector(loggers: Iterable[Logger], judge: Judge, places: Tensor, features: Tensor) -> None:
    """Points with their labels, and where samples are images, these."""
    items = judge.data.samples.used("val")
    labels = [items[i].label for i in places.tolist()]
    batches = judge.raw_inputs("val", places.tolist(), _AT_ONCE)
    made = (judge.data.input.thumbnails(inputs, _SPRITE) for inputs in batches)
    pictures = [picture for picture in made if picture is not None]
    writers.add_embedding(loggers, "val/features", features, labels, torch.cat(pictures) if pictures else None)
