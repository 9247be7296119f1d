"""Which folders are classes, which are splits, and which files are images."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tl_lightning.data.images.decode import EXTENSIONS
from tl_lightning.data.samples import Item
from tl_lightning.errors import UserError

log = logging.getLogger(__name__)

_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_IGNORED = {"__MACOSX", "__pycache__"}


def find(root: Path) -> list[Item]:
    """All image files under class folders, with the split that their folder gives (train where there is none).

    Hidden files and folders are passed over, linked folders followed. UserError for a layout that cannot be meant.
    """
    items: list[Item] = []
    labels: dict[str, set[str]] = {}
    others: list[Path] = []
    for split, part in _parts(root):
        labels[split] = {f.name for f in _subfolders(part)}
        others += [p for p in part.iterdir() if not p.is_dir() and not _hidden(p.name)]
        for folder in _subfolders(part):
            files = sorted(_files(folder))
            images = [p for p in files if p.suffix.lower() in EXTENSIONS]
            others += [p for p in files if p.suffix.lower() not in EXTENSIONS]
            if not images:
                kinds = ", ".join(sorted(EXTENSIONS))
                raise UserError(f"class folder {folder} holds no images ({kinds}): fill it or remove it")
            items += [Item(p.relative_to(root).as_posix(), folder.name, split) for p in images]
    _refuse(root, labels)
    if others:
        log.info(f"{len(others)} files that are no images of a class are left alone, e.g. {others[0]}")
    return items


def _parts(root: Path) -> list[tuple[str, Path]]:
    """(split, folder of class folders): of the split folders, or of the root itself."""
    folders = {f.name.lower(): f for f in _subfolders(root)}
    if len(folders.keys() & _SPLIT_FOLDERS.keys()) == 0 or not _subfolders(folders.get("train", root / "train")):
        return [("train", root)]
    strangers = sorted(folders.keys() - _SPLIT_FOLDERS.keys())
    if strangers and len(folders) - len(strangers) == 1:
        return [("train", root)]  # a class that happens to be called train, among others
    if strangers:
        raise UserError(
            f"data.root={root} has split folders and '{strangers[0]}' beside them, which is none: "
            "move it out, or put all classes into one folder"
        )
    parts = [(_SPLIT_FOLDERS[name], folder) for name, folder in folders.items()]
    if doubled := [s for s, n in Counter(s for s, _ in parts).items() if n > 1]:
        raise UserError(f"data.root={root} has several folders for the split '{doubled[0]}': keep one")
    return parts


def _refuse(root: Path, labels: Mapping[str, set[str]]) -> None:
    train = labels["train"]
    if not train:
        raise UserError(
            f"data.root={root} holds no class folders: put the images of each class into a folder of its name"
        )
    if len(train) == 1:
        raise UserError(f"data.root={root} holds one class only, '{next(iter(train))}': a classifier needs two or more")
    for split, found in labels.items():
        if strange := sorted(found - train):
            raise UserError(
                f"class '{strange[0]}' is in {split} but absent from train: add it to {root / 'train'} or remove it"
            )
        if found and (missing := sorted(train - found)):
            log.warning(f"{len(missing)} classes have no images in {split}: {_some(missing)}")


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if not _hidden(f)]
        yield from (Path(parent) / name for name in names if not _hidden(name))


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _hidden(p.name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
