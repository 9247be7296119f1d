"""A folder of class folders: what is in it, and whether it can be trained on."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from tl_lightning import checks
from tl_lightning.data import copies, splits
from tl_lightning.data.columns import Columns
from tl_lightning.data.images import inspection, layout
from tl_lightning.data.images.decode import DEFAULT, load_rgb, size
from tl_lightning.data.images.inspection import Finding
from tl_lightning.data.images.near_copies import Open
from tl_lightning.data.images.pictures import MANY, near_pictures, same_pictures
from tl_lightning.data.samples import Item, Samples, groups_in
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError
from tl_lightning.inputs import Reading
from tl_lightning.tasks.class_names import NUMBER
from tl_lightning.tasks.inferred import infer
from tl_lightning.tasks.task import Labels, MakeTask, Task

log = logging.getLogger(__name__)

_SHOWN = 160  # pixels of a small picture
_MEASURED = 100  # images
_BITS = (8, 10, 12, 14, 16)  # that cameras and microscopes fill of 16


@dataclass(frozen=True)
class Checking:
    """What is done about files: `on_error` "skip" or "raise", how they are `reading`, and whether JPEGs are drafted."""

    on_error: str = "skip"
    reading: Reading = DEFAULT
    draft: bool = True

    def __post_init__(self) -> None:
        checks.one_of("data.on_error", self.on_error, ("skip", "raise"))

    def complain(self, faults: Sequence[str]) -> None:
        """Warn of them; or raise UserError with the first if that is what `on_error` says."""
        if faults and self.on_error == "raise":
            raise UserError(f"{faults[0]}; data.on_error=skip trains without")
        for fault in faults:
            log.warning(fault)


@dataclass(frozen=True)
class ImageFolder(Samples):
    """The images under `root`, known by their paths below it, and how their files are read."""

    reading: Reading = DEFAULT
    noun = "images"

    def sample(self, item: Item) -> str:
        """Absolute path."""
        return str(self.root / item.path)

    def opened(self, path: str, at_least: int | None = None) -> Image.Image:
        """The image of a sample, as the data's files are read."""
        return load_rgb(path, at_least, self.reading)

    def sides(self, item: Item) -> tuple[int, int]:
        """Width and height of an image, upright."""
        return size(self.sample(item))

    def look(self, paths: Sequence[str], draft: bool) -> Mapping[str, Finding]:
        """What one look at each image has found, by path."""
        return inspection.look(self.root, paths, self.reading, draft)

    def shown(self, item: Item) -> str:
        """A small picture as a data URL."""
        image = self.opened(self.sample(item), 2 * _SHOWN)
        image.thumbnail((_SHOWN, _SHOWN))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
        return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

    def rows(self, items: Sequence[Item], beside: Path) -> list[list[str]]:
        """Path, label and split of each image; paths below `beside` are relative to it."""
        return [["path", "label", "split"], *([self.path_from(beside, i), i.label, i.split] for i in items)]

    def words(self, items: Sequence[Item]) -> list[str]:
        """That labels are classes, where they would be taken for numbers, or for none."""
        odd = any(NUMBER.fullmatch(i.label) or i.label.casefold() in Columns.missing for i in items)
        return ["task=classification", "data.missing=[]"] if odd else []

    def path_from(self, beside: Path, item: Item) -> str:
        """The path of an image, relative to a folder that it lies below, else absolute."""
        path = (self.root / item.path).absolute()
        return path.relative_to(beside).as_posix() if path.is_relative_to(beside) else path.as_posix()

    def short_side(self) -> int:
        """The median of the shorter side of some training images, in pixels."""
        used = self.used("train")
        picked = used[:: max(1, len(used) // _MEASURED)]
        return int(np.median([min(self.sides(item)) for item in picked]))


def read(
    root: str, task: MakeTask = infer, division: SplitOptions | None = None, checking: Checking | None = None
) -> ImageFolder:
    """Find, check and split the images under `root`.

    `root` holds class folders, or train[/val][/test] of class folders; what is missing is drawn from train. Raises
    UserError for anything that cannot be trained on.
    """
    division, checking = division or SplitOptions(), checking or Checking()
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"data.root={root} does not exist or is no folder: it must hold one folder of images per class")
    if division.splits:
        known = splits.read(Path(division.splits), exists=lambda p: (folder / p).exists())
    else:
        laid = layout.find(folder)
        checking.complain(laid.faults)
        known, folder = laid.items, laid.root
    items, findings = checked(folder, known, checking)
    made, labels = task(Labels(tuple(i.label for i in items), f"data.root={root}", names=True))
    items = [replace(i, label=label) for i, label in zip(items, labels, strict=True)]
    return divided(folder, items, findings, made, replace(checking, on_error="skip"), division, f"data.root={root}")


def divided(
    root: Path,
    items: Sequence[Item],
    findings: Mapping[str, Finding],
    task: Task,
    checking: Checking,
    division: SplitOptions,
    where: str,
    groups: Mapping[str, str] | None = None,
    opened: Open | None = None,
) -> ImageFolder:
    """Checked items with the splits that nobody gives drawn from train, copies of an image on one side.

    So is all of a group: of `groups`, by path, or of what `division.group` finds in a path. `opened`: gives an image
    where paths are no files. Raises UserError for
    anything that cannot be trained on.
    """
    usable, skipped = [i for i in items if not i.skipped], [i for i in items if i.skipped]
    most = None if division.doctor == "full" else MANY
    open_file = opened or (lambda path, at_least: load_rgb(root / path, at_least, checking.reading))
    near = near_pictures(findings, open_file, most, checking.reading.ground) if division.doctor != "off" else []
    same = same_pictures(findings, near)
    if not division.splits:
        given: Collection[str] = {i.split for i in usable}
        if division.group not in (None, "none") and groups is None:
            paths = [i.path for i in usable]
            groups = dict(zip(paths, groups_in(paths, division.group, "data.group"), strict=True))
        usable = copies.divided(usable, same, task, division, given, groups)
    usable = division.limited(usable, task)
    every = sorted([*usable, *skipped], key=lambda i: i.path)
    reading = replace(checking.reading, levels=_levels([findings[i.path].level for i in usable]))
    found = ImageFolder(root, tuple(every), task.naming([i.label for i in every if i.label]), reading=reading)
    found.refuse_unusable(where)
    how = f" ({len(near)} pairs are near copies: resized, cropped, mirrored or encoded anew)" if near else ""
    several = copies.report(usable, same, "images", lambda i: i.path, how, division.doctor)
    return replace(found, copies=several, grouped_by=None if division.group == "none" else division.group)


def checked(root: Path, items: Sequence[Item], checking: Checking) -> tuple[list[Item], Mapping[str, Finding]]:
    """Items with the reason filled in for unreadable files, which are listed by name, and all findings by path.

    Raises UserError if `on_error` says so, or if nothing is left.
    """
    findings = inspection.look(root, [i.path for i in items if not i.skipped], checking.reading, checking.draft)
    return set_aside(items, findings, checking, root), findings


def set_aside(items: Sequence[Item], findings: Mapping[str, Finding], checking: Checking, root: Path) -> list[Item]:
    """Items, those that the findings say cannot be read set aside, which are listed by name.

    Raises UserError if `on_error` says so, or if nothing is left.
    """
    faults = {path: finding.fault for path, finding in findings.items() if finding.fault}
    for path, reason in faults.items():
        log.warning(f"unreadable: {root / path} ({reason})")
    if faults and checking.on_error == "raise":
        raise UserError(
            f"{len(faults)} unreadable images, the first {root / next(iter(faults))} ({next(iter(faults.values()))}): "
            "mend or remove them, or train without them by data.on_error=skip"
        )
    if len(faults) == len(items):
        raise UserError(f"none of the {len(items)} images under {root} can be read")
    if faults:
        log.warning(f"skipped {len(faults)} unreadable of {len(items)} images; splits.csv names them")
    if blank := [path for path, finding in findings.items() if finding.blank]:
        log.warning(
            f"{len(blank)} of {len(items)} images are blank, all their pixels one value, e.g. {root / blank[0]}; "
            f"transparency is put on data.ground={checking.reading.ground}"
        )
    return [Item(i.path, i.label, "", faults[i.path]) if i.path in faults else i for i in items]


def _levels(highest: Sequence[int]) -> int:
    """The highest grey level that files of 16 bits use, over all of them; said where that is not all 16."""
    top = max(highest, default=0)
    bits: int = next(b for b in _BITS if top < 2**b) if top else 16
    if bits < 16:
        log.info(f"levels    {bits} of 16 bits are in use (the highest value is {top}): read as 0 to {2**bits - 1}")
    return int(2**bits) - 1
