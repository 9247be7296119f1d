"""Which task the labels call for."""

from __future__ import annotations

import ast
import logging

from tl_lightning.errors import UserError
from tl_lightning.tasks.class_names import NUMBER
from tl_lightning.tasks.classes import classification
from tl_lightning.tasks.indicator_columns import are_indicators
from tl_lightning.tasks.multilabels import multilabel
from tl_lightning.tasks.task import BETWEEN, Labels, Task
from tl_lightning.tasks.values import regression

log = logging.getLogger(__name__)

_MOST_CLASSES = 50  # whole numbers of more kinds are values
_LONGEST_LIST = 10_000  # characters
_MOSTLY = 0.9  # so many cells are numbers where what else stands there is a slip, and named as such


def infer(
    labels: Labels, *, label_smoothing: float | None = None, huber: float | None = None
) -> tuple[Task, list[str]]:
    """The task for these labels, and the labels as it reads them; said in the log, with the word that overrules it.

    A separator means several classes. Numbers that are not all whole, or are of many kinds, are values; several columns
    are; all else are classes. Raises UserError for values among which some cells hold no numbers.
    """
    if labels.names:
        return classification(labels, label_smoothing=label_smoothing)
    if labels.separator:
        return multilabel(labels, label_smoothing=label_smoothing)
    cells = [cell.strip() for cell in labels.cells if cell.strip()]
    if len(labels.columns) > 1 and are_indicators(labels.cells):
        log.info("task      multilabel: columns of 0 and 1; task=regression takes them as values")
        return multilabel(labels, label_smoothing=label_smoothing)
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


def as_lists(cells: list[str], are: bool) -> list[str]:
    """Cells that are lists, as pandas or JSON write them, with bars between their parts; nothing if they are none.

    `are`: the table has joined lists already.
    """
    if are:
        return cells
    written = [cell.strip() for cell in cells if cell.strip()]
    if not written or not all(cell.startswith("[") and cell.endswith("]") for cell in written):
        return []
    return ["|".join(_parts(cell.strip())) if cell.strip() else "" for cell in cells]


def _parts(cell: str) -> list[str]:
    try:
        parts = ast.literal_eval(cell) if len(cell) < _LONGEST_LIST else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        parts = None
    if not isinstance(parts, list) or not all(isinstance(part, (str, int)) for part in parts):
        return [part.strip(" '\"") for part in cell[1:-1].split(",") if part.strip(" '\"")]
    return [str(part) for part in parts]
