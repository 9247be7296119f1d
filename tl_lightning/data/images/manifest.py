"""A table with a column of paths and one of labels: the images that it names."""

from __future__ import annotations

import logging
import os
import posixpath
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from tl_lightning.data import splits
from tl_lightning.data.columns import TEXTS, Columns, Name, Rows, as_names, named, table_of
from tl_lightning.data.images.decode import EXTENSIONS
from tl_lightning.data.images.image_folder import Checking, ImageFolder, checked, divided
from tl_lightning.data.images.located import Located
from tl_lightning.data.loader_options import among
from tl_lightning.data.samples import Item
from tl_lightning.data.splits import SplitOptions
from tl_lightning.data.table import Format, Table
from tl_lightning.errors import UserError
from tl_lightning.tasks.inferred import infer
from tl_lightning.tasks.task import MakeTask, Task

log = logging.getLogger(__name__)

# Looked for, in this order and in any case.
_IMAGES = ("image", "image_path", "image_file", "img", "image_name", "image_id")  # are called so if they name images
PATHS = ("path", "image", "file", "filename", "filepath", "image_path", "file_path", "image_file", "img", "file_name",
         "image_name", "image_id", "id")  # fmt: skip
_LOOKED = 100  # rows
_LISTED = 5  # rows that an error or a warning names


@dataclass(frozen=True)
class ImageColumns(Columns):
    """`path`: the column of paths; None: one named like those in PATHS, or the one beside the label."""

    path: Name = None

    groups: ClassVar[Sequence[str]] = ("group", "group_id", "patient", "patient_id", "subject_id")
    key: ClassVar[str] = "path"
    known: ClassVar[Sequence[str]] = PATHS

    def named_samples(self) -> list[str]:
        """The column of paths, if it is named."""
        return as_names(self.path)


@dataclass(frozen=True)
class Manifest(ImageFolder):
    """The images that a table names.

    `table`: whole; `places`: the row of each image by its path, from 0; `column`: that of paths.
    """

    table: Table | None = None
    places: Mapping[str, int] = field(default_factory=dict)
    column: str = ""

    def lies_at(self) -> dict[str, Path]:
        """The folder of images and the table."""
        assert self.table is not None
        return {"root": self.root, "file": self.table.path}

    def groups(self, split: str, pattern: str) -> list[str]:
        """The group of each usable image of a split: what stands in a column, or is found in its path.

        Raises UserError for a pattern that is no column and finds nothing in a path.
        """
        assert self.table is not None
        if pattern not in self.table.columns:
            return super().groups(split, pattern)
        cells = self.table.column(pattern, "group")
        return [cells[self.places[item.path]] for item in self.used(split)]

    def words(self, items: Sequence[Item]) -> list[str]:
        """What separates the parts of lists, where the table had some."""
        assert self.table is not None
        return ["data.separator=bar"] if self.table.lists else []

    def rows(self, items: Sequence[Item], beside: Path) -> list[list[str]]:
        """The rows that the table has of these images; paths below `beside` are relative to it."""
        assert self.table is not None
        column, found = self.table.columns.index(self.column), [list(self.table.columns)]
        for item in items:
            row = list(self.table.rows[self.places[item.path]])
            row[column] = self.path_from(beside, item)
            found.append(row)
        return found


def names_images(source: Any, written: Format | None = None, root: str | None = None) -> bool:
    """Whether a table (a file, a folder of them, a DataFrame) names images rather than holding texts.

    It has a column that is called like one of paths, and there are cells in it that end like images, or lie as files
    below `root`; or it is called like one of images, and no other like one of texts. Raises UserError for what is no
    table.
    """
    whole = table_of(source, written or Format(), ImageColumns())
    if (column := named(whole.columns, PATHS)) is None:
        return False
    cells = whole.column(column, "data.path")[:_LOOKED]
    located = Located(Path(root).expanduser() if root else _root(whole.path, None))
    if any(posixpath.splitext(c)[1].lower() in EXTENSIONS or located.exists(located(c)) for c in cells if c.strip()):
        return True
    return column.lower() in _IMAGES and not named(whole.columns, TEXTS)


def read(
    file: Any,
    root: str | None = None,
    task: MakeTask = infer,
    columns: ImageColumns | None = None,
    division: SplitOptions | None = None,
    checking: Checking | None = None,
    written: Format | None = None,
) -> Manifest:
    """Check and split the images that a file (a folder of train, val and test files, a DataFrame) names.

    Paths are absolute, or relative to `root`; of None, to the file's folder. Raises UserError for what cannot be
    trained on.
    """
    columns, division = columns or ImageColumns(), division or SplitOptions()
    checking, whole = checking or Checking(), table_of(file, written or Format(), columns)
    folder = _root(whole.path, root)
    by_column = division.group is None or division.group in whole.columns
    rows = columns.found(whole, division.group if by_column else "none")
    made, items, places = _items(folder, rows, task, bounded=root is not None)
    if division.splits:
        there = {i.path for i in items if _is_there(folder, i.path)}
        items = splits.read(Path(division.splits), exists=there.__contains__, among="data.file", files=False)
    else:
        items = _present(folder, items, places, checking)
    items, findings = checked(folder, items, checking)
    groups = {path: rows.groups[row] for path, row in places.items()} if rows.groups else None
    kind = replace(checking, on_error="skip")
    found = divided(folder, items, findings, made, kind, division, rows.labels.where, groups)
    weights = {path: rows.weights[row] for path, row in places.items()} if rows.weights else {}
    more = {"weights": weights, "grouped_by": rows.grouped_by or found.grouped_by}
    return Manifest(**{**vars(found), **more}, table=whole, places=places, column=rows.columns[0])


def labelled(where: Path, make: MakeTask, task: Task, options: Mapping[str, Any]) -> Manifest:
    """All images of a table with their labels, in one split ("test"), under those options that name columns.

    Raises UserError for a table without such columns.
    """
    columns, written = among({**options, "split": "none", "weight": "none"}, ImageColumns, Format)
    whole = table_of(where, written, columns)
    folder = _root(whole.path, None)
    _, items, places = _items(folder, columns.found(whole, "none"), make, bounded=False)
    there = [replace(i, split="test") for i in _present(folder, items, places, Checking()) if not i.skipped]
    return Manifest(folder, tuple(there), task, table=whole, places=places)


def _root(file: Path, root: str | None) -> Path:
    """The folder that paths begin in. Raises UserError where there is none."""
    if root is None:
        return file if file.is_dir() else file.parent
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.root={root} does not exist or is no folder: the images that data.file names begin there")
    return folder


def _items(folder: Path, rows: Rows, make: MakeTask, bounded: bool) -> tuple[Task, list[Item], dict[str, int]]:
    """The task, an item for each path, and its row, from 0; those without a label are set aside."""
    task, labels = make(rows.labels)
    places = _places(folder, [cell for (cell,) in rows.samples], labels, bounded)
    parts = rows.splits or ["train"] * len(labels)
    lacking = {path for path, row in places.items() if not (labels[row] or task.may_lack)}
    if lacking:
        log.warning(f"{len(lacking)} of {len(places)} images have no label and are left out; splits.csv names them")
    items = [
        Item(path, labels[row], "" if path in lacking else parts[row], "no label" if path in lacking else "")
        for path, row in places.items()
    ]
    return task, items, places


def _places(folder: Path, cells: Sequence[str], labels: Sequence[str], bounded: bool) -> dict[str, int]:
    """Paths as items have them, and the row of each, from 0.

    `bounded`: absolute paths must lie below the folder, too. Raises UserError for paths that lead out of it, and for
    one with two labels.
    """
    located = Located(folder)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, cell in enumerate(cells):
        if not cell.strip():
            raise UserError(f"row {row + 1} has no path: remove it, or fill it in")
        rows[located(cell)].append(row)
    if outside := [(path, at[0]) for path, at in rows.items() if _is_outside(path, folder, bounded)]:
        raise UserError(
            f"{outside[0][0]} in row {outside[0][1] + 1} is not below {folder}: name the folder of all images by "
            "data.root=..."
        )
    doubled = {path: at for path, at in rows.items() if len(at) > 1}
    for path, at in doubled.items():
        first = {labels[row]: row for row in reversed(at)}
        if len(first) > 1:
            both = " and ".join(f"'{label}' in row {row + 1}" for label, row in sorted(first.items()))
            raise UserError(
                f"{path} is {both}: keep one of the rows; several classes stand in one row (data.separator=...)"
            )
    if doubled:
        log.warning(
            f"{len(doubled)} images are named more than once, and count once: "
            f"{_listed([f'{path} in rows {_numbers(at)}' for path, at in doubled.items()])}"
        )
    return {path: at[0] for path, at in rows.items()}


def _is_outside(path: str, folder: Path, bounded: bool) -> bool:
    if not posixpath.isabs(path):
        return path == ".." or path.startswith("../")
    return bounded and not Path(path).is_relative_to(folder.absolute())


def _present(folder: Path, items: Sequence[Item], rows: Mapping[str, int], checking: Checking) -> list[Item]:
    """Items, those of files that are not there set aside. Raises UserError where none is, or if `checking` says so."""
    gone = {i.path: rows[i.path] for i in items if not (i.skipped or _is_there(folder, i.path))}
    if gone and len(gone) == sum(not i.skipped for i in items):
        raise UserError(
            f"none of the {len(gone)} images is there, the first would be {folder / next(iter(gone))}: name the folder "
            "that the paths begin in by data.root=..."
        )
    if gone:
        first = _listed([f"{path} in row {row + 1}" for path, row in gone.items()])
        checking.complain([f"{len(gone)} of {len(items)} images are not there: {first}; splits.csv names all"])
    return [replace(i, split="", skipped="it is not there") if i.path in gone else i for i in items]


def _is_there(folder: Path, path: str) -> bool:
    return os.path.lexists(os.path.join(folder, path))  # a link to nothing is: opening it says what is wrong


def _numbers(rows: Sequence[int]) -> str:
    return " and ".join(str(row + 1) for row in rows[:_LISTED])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (" ..." if len(names) > _LISTED else "")
