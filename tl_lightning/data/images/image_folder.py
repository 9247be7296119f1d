"""A folder of class folders: what is in it, and whether it can be trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tl_lightning import checks
from tl_lightning.data import splits
from tl_lightning.data.images import doctor, layout
from tl_lightning.data.samples import Item, Samples
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError
from tl_lightning.tasks.inferred import infer
from tl_lightning.tasks.task import Labels, MakeTask, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFolder(Samples):
    """The images under `root`, known by their paths below it."""

    noun = "images"

    def sample(self, item: Item) -> str:
        """Absolute path."""
        return str(self.root / item.path)


def read(
    root: str, task: MakeTask = infer, division: SplitOptions | None = None, *, on_error: str = "skip"
) -> ImageFolder:
    """Find, check and split the images under `root`.

    `root` holds class folders, or train[/val][/test] of class folders; what is missing is drawn from train. Raises
    UserError for anything that cannot be trained on.
    """
    division = division or SplitOptions()
    checks.one_of("data.on_error", on_error, ("skip", "raise"))
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.root={root} does not exist or is no folder: it must hold one folder of images per class")
    if division.splits:
        items = splits.read(Path(division.splits), exists=lambda p: (folder / p).exists())
    else:
        items = checked(folder, layout.find(folder), on_error)
    made, labels = task(Labels(tuple(i.label for i in items), f"data.root={root}", names=True))
    items = [replace(i, label=label) for i, label in zip(items, labels, strict=True)]
    if not division.splits:
        items = _divided(items, made, division)
    items = division.limited(items, made)
    found = ImageFolder(folder, tuple(items), made.naming([i.label for i in items]))
    found.refuse_unusable(f"data.root={root}")
    return found


def checked(root: Path, items: Sequence[Item], on_error: str) -> list[Item]:
    """Items with the reason filled in for unreadable files, which are listed by name.

    Raises UserError if `on_error` says so, or if nothing is left.
    """
    faults = doctor.unreadable(root, [i.path for i in items])
    for path, reason in faults.items():
        log.warning(f"unreadable: {root / path} ({reason})")
    if faults and on_error == "raise":
        raise UserError(
            f"{len(faults)} unreadable images, the first {root / next(iter(faults))}: mend or remove them, "
            "or train without them by data.on_error=skip"
        )
    if len(faults) == len(items):
        raise UserError(f"none of the {len(items)} images under {root} can be read")
    if faults:
        log.warning(f"skipped {len(faults)} unreadable of {len(items)} images; splits.csv names them")
    return [Item(i.path, i.label, "", faults[i.path]) if i.path in faults else i for i in items]


def _divided(items: Sequence[Item], task: Task, division: SplitOptions) -> list[Item]:
    """Items with the splits that the folders do not give drawn from train, from readable images only."""
    given = {i.split for i in items}
    usable, skipped = [i for i in items if not i.skipped], [i for i in items if i.skipped]
    return sorted([*division.drawn(usable, task, given), *skipped], key=lambda i: i.path)
