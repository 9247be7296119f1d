"""A folder of class folders: what is in it, and whether it can be trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tl_lightning.data import doctor, layout, splits
from tl_lightning.data.labelled import Collection
from tl_lightning.data.splits import Item
from tl_lightning.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFolder(Collection):
    """The images under `root`, known by their paths below it."""

    noun = "images"

    def sample(self, item: Item) -> str:
        """Absolute path."""
        return str(self.root / item.path)

    def paths(self, name: str) -> list[str]:
        """Paths of a split's usable images, relative to `root`, in the order of `split`."""
        return [i.path for i in self.used(name)]


def read(
    root: str,
    *,
    val_fraction: float = 0.2,
    test_fraction: float = 0.0,
    max_per_class: int | None = None,
    seed: int = 0,
    on_error: str = "skip",
    splits_file: str | None = None,
) -> ImageFolder:
    """Find, check and split the images under `root`.

    `root` holds class folders, or train[/val][/test] of class folders; what is missing of val (and of test, if
    `test_fraction` is given) is drawn from train, stratified. `splits_file` repeats the split of an earlier run.
    Raises UserError for anything that cannot be trained on.
    """
    splits.check_fractions(val_fraction, test_fraction, max_per_class, "images")
    if on_error not in ("skip", "raise"):
        raise UserError(f"data.on_error={on_error} is unknown: use skip or raise")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.root={root} does not exist or is no folder: it must hold one folder of images per class")
    if splits_file:
        items = splits.read(Path(splits_file), exists=lambda p: (folder / p).exists())
    else:
        items = _checked(folder, layout.find(folder), on_error)
        items = _divided(items, val_fraction, test_fraction, seed)
    if max_per_class is not None:
        items = splits.few_shot(items, max_per_class, seed)
    classes = tuple(sorted({i.label for i in items}))
    found = ImageFolder(folder, tuple(items), classes)
    _refuse_unusable(found)
    return found


def _checked(root: Path, items: Sequence[Item], on_error: str) -> list[Item]:
    """Items with the reason filled in for unreadable files, which are listed by name."""
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


def _divided(items: Sequence[Item], val_fraction: float, test_fraction: float, seed: int) -> list[Item]:
    """Items with the splits that the folders do not give drawn from train, from readable images only."""
    given = {i.split for i in items}
    usable, skipped = [i for i in items if not i.skipped], [i for i in items if i.skipped]
    if "test" not in given and test_fraction:
        usable = splits.stratified(usable, test_fraction, "test", seed)
        val_fraction /= 1 - test_fraction
    if "val" not in given:
        usable = splits.stratified(usable, val_fraction, "val", seed)
    return sorted([*usable, *skipped], key=lambda i: i.path)


def _refuse_unusable(found: ImageFolder) -> None:
    if len(found.classes) < 2:
        raise UserError(f"{found.root} holds fewer than two classes")
    if empty := [c for c, n in zip(found.classes, found.counts("train"), strict=True) if n == 0]:
        raise UserError(f"class '{empty[0]}' has no readable image to train on: add some or remove its folder")
    if not any(found.counts("val")):
        raise UserError(f"no image of {found.root} is left for validation: add images, or a val folder")
