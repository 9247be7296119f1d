"""A table with a column of paths and one of labels: the images that it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tl_lightning.data import table
from tl_lightning.data.images.image_folder import Checking, ImageFolder, checked, divided
from tl_lightning.data.samples import Item
from tl_lightning.data.splits import SplitOptions
from tl_lightning.data.texts.text_table import LABELS
from tl_lightning.errors import UserError
from tl_lightning.tasks.inferred import infer
from tl_lightning.tasks.task import Labels, MakeTask

# Looked for, in this order and in any case.
PATHS = ("path", "image", "file", "filename", "filepath", "image_path", "file_path", "image_file", "img")


def has_paths(frame: Any) -> bool:
    """Whether a DataFrame has a column that is named as those of paths are."""
    return _named(table.of_frame(frame).columns, PATHS) is not None


def read(
    frame: Any,
    root: str,
    task: MakeTask = infer,
    division: SplitOptions | None = None,
    checking: Checking | None = None,
) -> ImageFolder:
    """Check and split the images that a DataFrame names by paths, absolute or below `root`.

    Raises UserError for a frame without such columns, for files that are not there, and for what cannot be trained on.
    """
    division, checking = division or SplitOptions(), checking or Checking()
    folder, found = Path(root).expanduser(), table.of_frame(frame)
    path, label = _named(found.columns, PATHS), _named(found.columns, LABELS)
    for what, name, known in (("paths", path, PATHS), ("labels", label, LABELS)):
        if name is None:
            raise UserError(
                f"the DataFrame has no column of {what}: it has {', '.join(found.columns)}; name one of them {known[0]}"
            )
    paths, cells = found.column(str(path), ""), found.column(str(label), "")
    if gone := [f"{p} in row {i}" for i, p in enumerate(paths, 1) if not (folder / p).is_file()]:
        raise UserError(f"the DataFrame names {len(gone)} files that are not there, the first {gone[0]}")
    if doubled := [p for p, count in Counter(paths).items() if count > 1]:
        raise UserError(
            f"the DataFrame names {len(doubled)} files more than once, the first {doubled[0]}: keep one row"
        )
    made, labels = task(Labels(tuple(cells), f"column '{label}' of the DataFrame", columns=(str(label),)))
    lacking = {i: "no label" for i, text in enumerate(labels) if not (text or made.may_lack)}
    items = [Item(p, text, "" if i in lacking else "train", lacking.get(i, "")) for i, (p, text) in
             enumerate(zip(paths, labels, strict=True))]  # fmt: skip
    usable, findings = checked(folder, [i for i in items if not i.skipped], checking)
    every = [*usable, *(i for i in items if i.skipped)]
    groups = None
    if division.group in found.columns:
        groups = dict(zip(paths, found.column(division.group, "data.group"), strict=True))
    return divided(folder, every, findings, made, checking, division, "the DataFrame", groups)


def _named(columns: Sequence[str], names: Sequence[str]) -> str | None:
    lower = {c.lower(): c for c in columns}
    return next((lower[name] for name in names if name in lower), None)
