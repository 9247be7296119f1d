"""Which folders are classes, which are splits, and which files are images."""

from __future__ import annotations

import functools
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tl_lightning.data.images.foreign import begins_like_an_image, named_like_an_image
from tl_lightning.data.samples import Item
from tl_lightning.data.splits import split_of
from tl_lightning.errors import UserError, nearest

log = logging.getLogger(__name__)

# What operating systems, network drives, photo programs and notebooks leave behind, in lower case.
_LEFT = frozenset(
    ("__macosx", "__pycache__", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information",
     "lost+found", "thumbnails", "thumbs.db", "desktop.ini", "icon\r", "network trash folder", "temporary items")
)  # fmt: skip


@dataclass
class Layout:
    """`root`: of the class folders or the splits, below what was named where that only wraps them. `items`: images.

    `faults`: what could not be listed, or holds nothing, in words.
    """

    root: Path
    items: list[Item] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def find(named: Path) -> Layout:
    """All images under class folders, with the split that their folder gives (train where there is none).

    A class folder holds images, itself or in folders below it. Hidden and system folders are passed over; links are
    followed, but a file counts once, and a folder that is reached by a link to what lies around it not at all. Raises
    UserError for a layout that cannot be meant.
    """
    _entries.cache_clear()  # of another time
    found = Layout(_unwrapped(named))
    if found.root != named:
        log.info(f"layout    {named} only wraps {found.root}, which is taken")
    parts, strangers = _parts(found.root)
    walk = _Walk(
        {_identity(folder) for _, part in parts for folder in (found.root, part, *_folders(part))}, found.faults
    )
    labels: dict[str, set[str]] = {}
    loose = [p for folder in {found.root, *(part for _, part in parts)} for p in _files(folder)]
    for split, part in parts:
        labels.setdefault(split, set())
        for folder in _folders(part):
            images, others = walk.images(folder)
            loose += others
            if not images:
                found.faults.append(f"class folder {folder} holds no images: it is left out")
                continue
            label = _label(folder.name)
            labels[split].add(label)
            found.items += [Item(p.relative_to(found.root).as_posix(), label, split) for p in images]
    _refuse(found.root, labels, dict(parts))
    _say(loose, strangers, walk.again)
    return found


def _unwrapped(root: Path, is_split: bool = False) -> Path:
    """The folder itself, or the only one in it where that, and no image beside it, holds folders of images.

    Below a folder that `is_split` a name like train says nothing more.
    """
    while True:
        inside = _folders(root)
        if len(inside) != 1 or _has_images(root) or _has_images(inside[0]) or not _folders(inside[0]):
            return root
        if not is_split and split_of(inside[0].name) is not None and not _folders(_folders(inside[0])[0]):
            return root  # train/ alone, with its classes
        root = inside[0]


def _parts(root: Path) -> tuple[list[tuple[str, Path]], list[Path]]:
    """(split, folder of class folders) of each split, or of the root itself; and the folders that are neither."""
    folders = _folders(root)
    named = [(split, rest, f) for f in folders for split, rest in [split_of(f.name) or ("", "")] if split]
    common = Counter(rest for _, rest, _ in named)
    splits = [(split, f) for split, rest, f in named if not rest or common[rest] > 1]
    # a class may be called train: then the folder holds images itself
    parts = [(split, _unwrapped(f, is_split=True)) for split, f in splits if _folders(f) and not _has_images(f)]
    parts += [(split, f) for split, f in splits if _has_images(f) and _folders(f) and parts]
    if "train" not in dict(parts):
        _say_namesakes(folders)
        return [("train", root)], []
    if doubled := [s for s, n in Counter(s for s, _ in parts).items() if n > 1]:
        raise UserError(f"data.root={root} has several folders for the split '{doubled[0]}': keep one")
    known = {f for _, f in splits}
    log.info(f"layout    splits are given by the folders {', '.join(sorted(f.name for f in known))}")
    return parts, [f for f in folders if f not in known]


def _say_namesakes(folders: Sequence[Path]) -> None:
    """Folders that hold folders of the same names may be splits under names that nobody knows."""
    inside = {f: frozenset(below.name for below in _folders(f)) for f in folders if not _has_images(f)}
    shared = [f for f, names in inside.items() if len(names) > 1 and list(inside.values()).count(names) > 1]
    if shared:
        log.warning(
            f"layout    {', '.join(f.name for f in shared[:3])} hold folders of the same names "
            f"({', '.join(sorted(inside[shared[0]])[:3])}): they are taken for classes; if they are splits, call them "
            "train, val and test"
        )


class _Walk:
    """Goes through class folders; what was seen before, under whatever name, is left out and counted in `again`."""

    def __init__(self, seen: set[tuple[int, int]], faults: list[str]) -> None:
        self.seen, self.faults, self.again = seen, faults, 0

    def images(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The images of a class folder, sorted, and what else lies there."""
        images, others = [], []
        for path in sorted(self._files(folder)):
            if named_like_an_image(path) or begins_like_an_image(path):
                images.append(path)
            else:
                others.append(path)
        return images, others

    def _files(self, folder: Path) -> Iterator[Path]:
        for entry in self._listed(folder):
            path = Path(entry.path)
            try:
                identity = _identity(path)
                if entry.is_dir():
                    new = identity not in self.seen
                    self.seen.add(identity)
                    if new:
                        yield from self._files(path)
                    else:
                        self.again += 1
                    continue
                if identity in self.seen:
                    self.again += 1
                    continue
                self.seen.add(identity)
            except OSError:  # a link to nothing: opening it says so
                pass
            yield path

    def _listed(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted((e for e in entries if not _left_behind(e.name)), key=lambda e: e.name)
        except OSError as error:
            self.faults.append(f"{folder} cannot be listed ({error.strerror}): what is in it is left out")
            return []


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _refuse(root: Path, labels: Mapping[str, set[str]], folders: Mapping[str, Path]) -> None:
    train = labels["train"]
    if not train:
        raise UserError(
            f"data.root={root} holds no class folders with images: put the images of each class into a folder of its "
            "name, or name a table of paths and labels"
        )
    for split, found in labels.items():
        if strange := sorted(found - train):
            alike = [name for name in train if name.casefold() == strange[0].casefold()]
            hint = nearest(strange[0], alike or train)
            raise UserError(
                f"class '{strange[0]}' is in {split} but absent from train: {hint} Rename it, add it to "
                f"{folders['train']}, or remove it"
            )
        if found and (missing := sorted(train - found)):
            log.warning(f"{len(missing)} classes have no images in {split}: {_some(missing)}")


def _say(loose: Sequence[Path], strangers: Sequence[Path], again: int) -> None:
    if strangers:
        log.warning(f"{_some([f.name for f in strangers])} beside the split folders are left alone")
    if images := [p for p in loose if named_like_an_image(p)]:
        log.warning(f"{len(images)} images lie outside of class folders and are left alone, e.g. {images[0]}")
    if others := len(loose) - len(images):
        log.info(
            f"{others} files that are no images of a class are left alone, e.g. {(set(loose) - set(images)).pop()}"
        )
    if again:
        log.warning(f"{again} links lead to files or folders that are there already: each counts once")


@functools.cache
def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files in a folder, sorted; none where it cannot be listed, of which the walk tells."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((e for e in found if not _left_behind(e.name)), key=lambda e: e.name)
    except OSError:
        return [], []
    kinds = [(Path(entry.path), _is_folder(entry)) for entry in entries]
    return [path for path, is_dir in kinds if is_dir], [path for path, is_dir in kinds if not is_dir]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into what may not be looked at: opening it says so
        return False


def _folders(folder: Path) -> list[Path]:
    return _entries(folder)[0]


def _files(folder: Path) -> list[Path]:
    return _entries(folder)[1]


def _has_images(folder: Path) -> bool:
    return any(named_like_an_image(p) for p in _files(folder))


def _left_behind(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT


def _label(name: str) -> str:
    """A folder's name in Unicode's composed form; bytes of an old archive that are no UTF-8 as hexadecimal numbers."""
    readable = os.fsencode(name).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", readable)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
