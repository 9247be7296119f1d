"""Cells of a table as names of classes."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Mapping

from tl_lightning.errors import UserError
from tl_lightning.tasks.task import Labels

log = logging.getLogger(__name__)

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_POINT_ZERO = re.compile(r"-?\d+\.0+")


def class_names(labels: Labels) -> list[str]:
    """The name of a class for every cell; whole numbers written as 1.0 become 1.

    Raises UserError for measurements, and for labels of which nearly every one is another.
    """
    cells = list(labels.cells)
    if labels.names:
        return cells
    cells = [cell.strip() for cell in cells]
    if all(NUMBER.fullmatch(cell) for cell in cells if cell):
        if strange := [cell for cell in cells if cell and not float(cell).is_integer()]:
            raise UserError(f"{labels.where} holds numbers there, like {strange[0]}, and no names of classes")
        cells = [re.sub(r"\.0*$", "", cell) for cell in cells]
    cells = _one_form(cells)
    different = len(set(cells))
    if different > max(50, len(cells) // 2):
        raise UserError(f"{labels.where} has {different} different ones in {len(cells)} rows, too many to be classes")
    return cells


def _one_form(cells: list[str]) -> list[str]:
    """The names in Unicode's composed form, and a name like 1.0 as 1 where both stand for one class."""
    cells = [unicodedata.normalize("NFC", cell) for cell in cells]
    known = set(cells)
    twins = {name: name.partition(".")[0] for name in known if _POINT_ZERO.fullmatch(name)}
    if same := {name: whole for name, whole in twins.items() if whole in known}:
        shown = ", ".join(f"{name} and {whole}" for name, whole in list(same.items())[:3])
        log.warning(f"classes that are one number in two forms are one class: {shown}")
    return [same.get(cell, cell) for cell in cells]


def refuse_classes(where: str, noun: str, train: Mapping[str, int]) -> None:
    """Raise UserError for less than two classes, or one without a sample to train on."""
    if not train:
        raise UserError(f"{where} holds no labelled {noun}")
    if len(train) < 2:
        raise UserError(f"{where} holds one class only, '{next(iter(train))}': a classifier needs two or more")
    if empty := [name for name, count in train.items() if count == 0]:
        raise UserError(f"class '{empty[0]}' has no usable {noun} to train on: add some, or remove it")
