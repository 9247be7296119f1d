"""A column of 0 and 1 for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tl_lightning.errors import UserError
from tl_lightning.tasks.task import BETWEEN, Labels

_YES, _NO = frozenset(("1", "1.0", "true", "yes")), frozenset(("0", "0.0", "false", "no"))


def are_indicators(cells: Sequence[str]) -> bool:
    """Whether the values of several columns are all 0 or 1."""
    found = {part.strip().lower() for cell in cells if cell for part in cell.split(BETWEEN)}
    return bool(found) and found <= _YES | _NO


def of_indicators(labels: Labels) -> Labels:
    """Such columns as the names of the classes. Raises UserError for a name that would be taken for two."""
    if barred := [name for name in labels.columns if "|" in name]:
        raise UserError(f"{labels.where}: the column '{barred[0]}' holds a bar, which separates classes: rename it")

    def names(cell: str) -> str:
        parts = zip(labels.columns, cell.split(BETWEEN), strict=True) if cell else ()
        return "|".join(name for name, part in parts if part.strip().lower() in _YES)

    return replace(labels, cells=tuple(map(names, labels.cells)), separator="|", columns=("label",))
