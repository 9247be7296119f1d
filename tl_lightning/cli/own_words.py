"""The words of a verb that are its own, and how its errors are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tl_lightning import machine
from tl_lightning.cli.one_line_errors import one_line_errors
from tl_lightning.errors import UserError, nearest

NONE = "null"  # of an option: it is not asked for


@contextmanager
def tool(argv: Sequence[str]) -> Iterator[None]:
    """While inside, threads are chosen, and errors are one line."""
    machine.set_threads()
    with one_line_errors(debug="debug=true" in argv):
        yield


def own_words(argv: Sequence[str], known: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Values of the words that are this verb's own, and the other words."""
    found, left = dict(known), []
    for word in argv:
        name, equals, value = word.partition("=")
        if name in known and equals:
            found[name] = value
        else:
            left.append(word)
    return found, left


def boolean(key: str, value: str) -> bool:
    """True or false. Raises UserError for any other word."""
    if value not in ("true", "false"):
        raise UserError(f"{key}={value} must be true or false")
    return value == "true"


def number(key: str, value: str) -> float:
    """A number, whole if it is. Raises UserError for any other word."""
    try:
        found = float(value)
    except ValueError as error:
        raise UserError(f"{key}={value} must be a number") from error
    return int(found) if found.is_integer() else found


def refuse_left(left: Sequence[str], known: dict[str, Any]) -> None:
    """Raise UserError for a word that is none of this verb's, or a value that is missing."""
    if strange := [word for word in left if word != "debug=true"]:
        name = strange[0].partition("=")[0]
        raise UserError(f"{strange[0]}: there is no option '{name}' here: {nearest(name, known)}")
    if missing := [name for name, value in known.items() if not value]:
        raise UserError(f"{missing[0]}=... must be given")


def folder_of(name: str, value: str) -> Path:
    """A folder that is there. Raises UserError for any other word."""
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise UserError(f"{name}={value} is no folder")
    return folder
