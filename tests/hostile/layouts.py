"""Folders of images as they come out of archives, clouds and other people's hands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.hostile.case import Case, photos, trained


def _laid(make: Callable[[Path], object], folder: Path) -> list[str]:
    (folder / "p").mkdir()
    make(folder / "p")
    return trained(folder / "p")


def _splits(*names: str, **more: str):
    def make(root: Path) -> None:
        for k, name in enumerate(names):
            photos(root / name, number=8 - k)

    return make


def _wrapped(depth: int):
    return lambda root: photos(root.joinpath(*["photos"] * depth))


def _with(change: Callable[[Path], object], classes: tuple[str, ...] = ("a", "b")):
    def make(root: Path) -> None:
        photos(root, classes)
        change(root)

    return make


def _hard_links(root: Path) -> None:
    for path in (root / "a").iterdir():
        os.link(path, root / "b" / f"linked {path.name}")


GOOD: dict[str, tuple[Callable[[Path], object], str]] = {
    "Training, Testing": (_splits("Training", "Testing"), r"splits are given by the folders Testing, Training"),
    "train, dev": (_splits("train", "dev"), r"16 train, 14 val"),
    "train, eval, test": (_splits("train", "eval", "test"), r"16 train, 14 val, 12 test"),
    "TRAIN, VALIDATION": (_splits("TRAIN", "VALIDATION"), r"16 train, 14 val"),
    "train_set, test_set": (_splits("train_set", "test_set"), r"14 test"),
    "seg_train/seg_train": (_splits("seg_train/seg_train", "seg_test/seg_test"), r"classes +a \d, b \d"),
    "train alone": (_splits("train"), r"classes +a \d, b \d"),
    "wrapped once": (_wrapped(1), "only wraps"),
    "wrapped three times": (_wrapped(3), "only wraps"),
    "wrapped splits": (lambda r: _splits("train", "val")(r / "data"), r"16 train, 14 val"),
    "a stranger beside the splits": (lambda r: (_splits("train", "val")(r), photos(r, ("unsorted",))), "left alone"),
    "loose images at the root": (_with(lambda r: shutil.copy(r / "a" / "0.png", r / "x.png")), "outside of class"),
    "loose images in a split": (lambda r: (_splits("train", "val")(r), shutil.copy(r / "val/a/0.png", r / "val")),
                                "outside of class folders"),
    "an empty class": (_with(lambda r: (r / "c").mkdir()), r"class folder .*c holds no images: it is left out"),
    "a class of hidden files": (_with(lambda r: ((r / "c").mkdir(), (r / "c/.x.png").touch())), "holds no images"),
    "thumbnails of a NAS": (_with(lambda r: photos(r / "a" / "@eaDir", ("x",))), r"classes +a 5, b 5"),
    "a recycle bin": (_with(lambda r: photos(r, ("#recycle",))), r"classes +a 5, b 5"),
    "what a Mac packs": (_with(lambda r: photos(r / "__MACOSX", ("a",))), r"classes +a 5, b 5"),
    "checkpoints of a notebook": (_with(lambda r: photos(r, (".ipynb_checkpoints",))), r"classes +a 5, b 5"),
    "images in folders below a class": (_with(lambda r: photos(r / "a" / "2024", ("may",))), r"classes +a \d+, b \d+"),
    "a class called train": (lambda r: photos(r, ("train", "bus")), r"classes +bus 5, train 5"),
    "a class called test_tubes": (lambda r: photos(r, ("test_tubes", "flasks")), r"classes +flasks 5, test_tubes 5"),
    "a link to the folder around": (_with(lambda r: (r / "a" / "up").symlink_to("..")), r"classes +a 5, b 5"),
    "a link to another class": (_with(lambda r: (r / "c").symlink_to("a")), r"classes +a 5, b 5"),
    "a link to a folder elsewhere": (_with(lambda r: (photos(r.parent / "more", ("x",)),
                                                      (r / "a" / "m").symlink_to(r.parent / "more" / "x"))),
                                     r"copies +6 images are copies"),
    "hard links in another class": (_with(_hard_links), "each counts once"),
    "classes of folders of the same names": (lambda r: (photos(r / "cats", ("in", "out")), photos(r / "dogs", ("in", "out"))),
                                             "taken for classes"),
    "numbers as classes": (lambda r: photos(r, ("1", "2", "10")), r"classes +1 5, 2 5, 10 5"),
    "classes that differ in capitals": (lambda r: photos(r, ("Ants", "ants")), "differ in capitals alone"),
}  # fmt: skip
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda r: None, "no class folders with images"),
    "images without folders": (lambda r: photos(r.parent, ("p",)), "no class folders with images"),
    "one class": (lambda r: photos(r, ("a",)), "one class only, 'a'"),
    "val and valid": (_splits("train", "val", "valid"), "several folders for the split 'val'"),
    "Ants in val, ants in train": (lambda r: (photos(r / "train", ("ants", "bees")), photos(r / "val", ("Ants", "bees"))),
                                   "did you mean ants"),
    "a class in val alone": (lambda r: (photos(r / "train"), photos(r / "val", ("a", "c"))), "'c' is in val but absent"),
    "one image of each class": (lambda r: photos(r, number=1), "is left for validation"),
    "nothing but damaged images": (lambda r: [(r / c).mkdir() or (r / c / "x.png").write_bytes(b"x") for c in "ab"],
                                   "none of the 2 images"),
    "a class of damaged images": (_with(lambda r: ((r / "c").mkdir(), (r / "c/x.png").write_bytes(b"x"))),
                                  "class 'c' has no usable image"),
}  # fmt: skip
CASES = [
    *(Case(f"layout: {name}", partial(_laid, make), 0, says) for name, (make, says) in GOOD.items()),
    *(Case(f"layout: {name}", partial(_laid, make), 1, says, quick=True) for name, (make, says) in BAD.items()),
    Case("layout: no such folder", lambda f: trained(f / "none"), 1, "does not exist or is no folder", quick=True),
    Case("layout: a file", lambda f: ((f / "x").touch(), trained(f / "x"))[1], 1, "is no folder", quick=True),
]
