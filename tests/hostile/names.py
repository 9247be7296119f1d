"""Names of classes, files and folders."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

from tests.hostile.case import Case, photos, trained

# name on disk: as the terminal shows it
CLASSES: dict[str | bytes, str] = {
    "cats,dogs": "cats,dogs", "a=b": "a=b", "#1": "#1", "\U0001f41d bees": "\U0001f41d bees", "it's": "it's",
    'say "hi"': 'say "hi"', "back\\slash": "back\\slash", "x{y}": "x{y}", "${oc.env:HOME}": "${oc.env:HOME}", "~": "~",
    "-m": "-m", "trailing ": "trailing ", " lead": " lead", "null": "null", "true": "true", "1e3": "1e3", "01": "01",
    "no": "no", "[1]": "[1]", "%s%d": "%s%d", "$math$": "$math$", "a|b": "a|b", "<b>bold": "<b>bold", "CON": "CON",
    "line\nbreak": "line\\x0abreak", "tab\tin": "tab\\x09in", "\x1b[31mred": "\\x1b[31mred", "bell\x07": "bell\\x07",
    "\u202egpj": "\\u202egpj", "=cmd()": "=cmd()", "+1": "+1", "@sum": "@sum", "e\u0301": "\u00e9",
    b"caf\xe9": "caf\\xe9", "x" * 200: "x" * 200, "\u65e5\u672c": "\u65e5\u672c",
}  # fmt: skip
FILES = ["=1+1.png", "new\nline.png", "esc\x1b[2J.png", "a,b.png", 'quo"te.png', "  .png", "\U0001f41d.png", "-x.png",
         "${x}.png", "%d.png", "'.png", "n" * 240 + ".png"]  # fmt: skip


def _class(name: str | bytes, folder: Path) -> list[str]:
    return trained(photos(folder / "p", (name, "zz other")))


def _file(name: str, folder: Path) -> list[str]:
    root = photos(folder / "p")
    (root / "a" / "0.png").rename(root / "a" / name)
    (root / "b" / name).write_bytes(b"no image")  # its name is said
    return trained(root)


def _root(name: str, folder: Path) -> list[str]:
    return trained(photos(folder / name))


def _run_folder(name: str, folder: Path) -> list[str]:
    return trained(photos(folder / "p"), f"hydra.run.dir={folder}/{name}")


def _shown(name: str | bytes) -> str:
    return os.fsdecode(name).encode("utf-8", "backslashreplace").decode()[:30]


CASES = [
    *(Case(f"class: {_shown(name)!r}", partial(_class, name), 0, re.escape(f"{shown} 5") + r"(?![\w])")
      for name, shown in CLASSES.items()),
    *(Case(f"image: {_shown(name)!r}", partial(_file, name), 0, "unreadable: .*UnidentifiedImageError") for name in FILES),
    *(Case(f"root: {name!r}", partial(_root, name), 0, r"val +accuracy")
      for name in ("a,b", "a=b", "${oc.env:HOME}", "it's", "x{y}", "end ", "\U0001f41d", "~x", "a: b", "[a]", "tab\there")),
    *(Case(f"run folder: {name!r}", partial(_run_folder, name), 0, r"val +accuracy") for name in ("r 1", "r,1", "r=1")),
]  # fmt: skip
