"""To whoever shows runs: pictures, texts, choices, scores. What a logger cannot show it is not told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from matplotlib.figure import Figure
from torch import Tensor

from tl_lightning.reports.trackers import WRITERS, Writer

Loggers = Iterable[Logger]


def begin(loggers: Loggers, settings: Mapping[str, Any]) -> None:
    """All options of a run, nested as they are."""
    for writer in _writers(loggers):
        writer.begin(dict(_flat(settings)))


def add_figure(loggers: Loggers, tag: str, figure: Figure, step: int = 0) -> None:
    """A picture drawn by matplotlib."""
    for writer in _writers(loggers):
        writer.figure(tag, figure, step)


def add_image(loggers: Loggers, tag: str, image: Tensor, step: int = 0) -> None:
    """A picture (3, H, W) in [0, 1]."""
    for writer in _writers(loggers):
        writer.image(tag, image, step)


def add_text(loggers: Loggers, tag: str, text: str, step: int = 0) -> None:
    """Markdown."""
    for writer in _writers(loggers):
        writer.text(tag, text, step)


def add_charts(loggers: Loggers, charts: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """By heading and title the curves of a chart (patterns of tags)."""
    for writer in _writers(loggers):
        writer.charts(charts)


def add_pr_curve(loggers: Loggers, tag: str, true: Tensor, probabilities: Tensor) -> None:
    """Precision against recall, of whether each sample is of a class (N,) and how probable that is (N,)."""
    for writer in _writers(loggers):
        writer.pr_curve(tag, true, probabilities)


def add_embedding(loggers: Loggers, tag: str, features: Tensor, labels: Sequence[str], pictures: Tensor | None) -> None:
    """Features (N, D) with labels, and pictures (N, 3, H, W) in [0, 1] if there are any."""
    for writer in _writers(loggers):
        writer.embedding(tag, features, labels, pictures)


def close(loggers: Loggers, chosen: Mapping[str, Any], scores: Mapping[str, float], files: Sequence[Path]) -> None:
    """The choices of a run beside its scores, and the files that it leaves, at the end of what is logged."""
    for writer in _writers(loggers):
        writer.close(chosen, scores, [file for file in files if file.is_file()])


@contextmanager
def aborting(loggers: Loggers) -> Iterator[None]:
    """What fails while inside has failed for the loggers, too."""
    try:
        yield
    except BaseException:
        for writer in _writers(loggers):
            writer.abort()
        raise


def takes_pictures(loggers: Loggers) -> bool:
    """Whether anybody would see a picture."""
    return any(True for _ in _writers(loggers))


def _writers(loggers: Loggers) -> Iterator[Writer]:
    for logger in loggers:
        for kind, writer in WRITERS.items():
            if isinstance(logger, kind):
                yield writer(logger)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by their dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
