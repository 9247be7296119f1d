"""TensorBoard, for whoever has something to show: the one place that knows which loggers take pictures and texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from torch import Tensor

Loggers = Iterable[Logger]


class TensorBoard(TensorBoardLogger):
    """Lightning's logger with one file of events a run: its own closes the file after every fit, validate and test."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Bring to the disk what has been logged."""
        if self._experiment is not None:
            self.experiment.flush()


def add_figure(loggers: Loggers, tag: str, figure: Figure, step: int = 0) -> None:
    """A picture drawn by matplotlib."""
    for writer in _writers(loggers):
        writer.add_figure(tag, figure, step, close=False)


def add_image(loggers: Loggers, tag: str, image: Tensor, step: int = 0) -> None:
    """A picture (3, H, W) in [0, 1]."""
    for writer in _writers(loggers):
        writer.add_image(tag, image, step)


def add_text(loggers: Loggers, tag: str, text: str, step: int = 0) -> None:
    """Markdown."""
    for writer in _writers(loggers):
        writer.add_text(tag, text, step)


def add_charts(loggers: Loggers, charts: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """By heading and title the curves of a chart (patterns of tags), on TensorBoard's page of custom scalars.

    There is one such page: a second call takes the place of the first.
    """
    layout = {heading: {title: ["Multiline", list(tags)] for title, tags in inside.items()}
              for heading, inside in charts.items()}  # fmt: skip
    for writer in _writers(loggers):
        writer.add_custom_scalars(layout)


def add_pr_curve(loggers: Loggers, tag: str, true: Tensor, probabilities: Tensor) -> None:
    """Precision against recall, of whether each sample is of a class (N,) and how probable that is (N,)."""
    for writer in _writers(loggers):
        writer.add_pr_curve(tag, true, probabilities)


def add_embedding(loggers: Loggers, tag: str, features: Tensor, labels: Sequence[str], pictures: Tensor | None) -> None:
    """Features (N, D) for the projector, with labels, and pictures (N, 3, H, W) in [0, 1] if there are any."""
    for writer in _writers(loggers):
        writer.add_embedding(features, list(labels), pictures, tag=tag)


def add_hparams(loggers: Loggers, chosen: Mapping[str, Any], scores: Mapping[str, float]) -> None:
    """The choices of a run beside its scores, for TensorBoard's HPARAMS page, at the end of what is logged."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(chosen), dict(scores))
            logger.save()
            logger.experiment.close()


def takes_pictures(loggers: Loggers) -> bool:
    """Whether anybody would see a picture."""
    return any(True for _ in _writers(loggers))


def _writers(loggers: Loggers) -> Iterator[Any]:
    return (logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger))
