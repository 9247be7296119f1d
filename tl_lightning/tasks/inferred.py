"""Which task the labels call for."""

from __future__ import annotations

import logging

from tl_lightning.errors import UserError
from tl_lightning.tasks.classes import NUMBER, classification
from tl_lightning.tasks.multilabels import multilabel
from tl_lightning.tasks.task import Labels, Task
from tl_lightning.tasks.values import BETWEEN, regression

log = logging.getLogger(__name__)

_MOST_CLASSES = 50  # whole numbers of more kinds are values
_MOSTLY = 0.9  # so many cells are numbers where what else stands there is a slip, and named as such


def infer(labels: Labels, *, label_smoothing: float = 0.1, huber: float | None = None) -> tuple[Task, list[str]]:
    """The task for these labels, and the labels as it reads them; said in the log, with the word that overrules it.

    A separator means several classes. Numbers that are not all whole, or are of many kinds, are values; several columns
    are; all else are classes. Raises UserError for values among which some cells hold no numbers.
    """
    if labels.names:
        return classification(labels, label_smoothing=label_smoothing)
    if labels.separator:
        return multilabel(labels, label_smoothing=label_smoothing)
    cells = [cell.strip() for cell in labels.cells if cell.strip()]
    if len(labels.columns) > 1:
        log.info("task      regression: there are several columns of labels")
        return regression(labels, huber=huber)
    numbers = [cell for cell in cells if NUMBER.fullmatch(cell)]
    if len(numbers) <= _MOSTLY * len(cells):
        return classification(labels, label_smoothing=label_smoothing)
    kinds, whole = len(set(numbers)), all(float(cell).is_integer() for cell in numbers)
    if whole and kinds <= max(2, min(_MOST_CLASSES, len(cells) // 5)):
        log.info(f"task      classification: {kinds} whole numbers as labels; task=regression takes them as values")
        return classification(labels, label_smoothing=label_smoothing)
    what = (
        f"{kinds} different numbers" if whole else f"numbers that are not whole, like {next(filter(_broken, numbers))}"
    )
    log.info(f"task      regression: {what} as labels; task=classification takes them as classes")
    return regression(labels, huber=huber)


def _broken(cell: str) -> bool:
    return not float(cell).is_integer()


def joined(columns: list[list[str]]) -> list[str]:
    """The cells of several columns as one label each; empty where one of them is. Raises UserError for no column."""
    if not columns:
        raise UserError("data.label must name a column")
    rows = [list(row) for row in zip(*columns, strict=True)]
    return [BETWEEN.join(row) if all(cell.strip() for cell in row) else "" for row in rows]
