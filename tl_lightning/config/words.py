"""A command line's words as Hydra takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from tl_lightning.config.compose import option, quoted
from tl_lightning.errors import UserError
from tl_lightning.options import OWN, conf_dir, groups

_SPECIAL = " ,=:(){}[]$'\"\\#%~"
_PATHS = ("data.root", "data.file", "data.shards", "data.splits", "backbone.weights", "resume", "hydra.run.dir")
SWEEP = ("-m", "--multirun")
TABLES = {"images": "manifest", "texts": "text_csv"}  # the option of data= for a table
_OWN = ("backbone", "strategy", "head", "data", "task")  # groups of which an option `own` holds nothing but a target


def is_sweep(words: Sequence[str]) -> bool:
    """Whether a command line asks for a sweep."""
    return any(word in SWEEP for word in words)


def arguments(argv: Sequence[str]) -> list[str]:
    """The words as Hydra takes them.

    -m goes to the front (between overrides argparse would not take it); values that Hydra cannot parse, like paths with
    spaces, are quoted; where a value is named that one data option alone must be given, like `data.root`, that option
    is added; so is `own` where a class of the user's is named, like `backbone._target_`. What a resumed run reads
    elsewhere is not among the options that this command line composes. Raises UserError for a value without a name.
    """
    if nameless := [word for word in argv if word.lstrip("+~").startswith("=")]:
        raise UserError(f"'{nameless[0]}' names nothing: say key=value")
    sweeping = is_sweep(argv)
    expanded = [_expanded(word) for word in argv]
    words = [_quoted(word, sweeping) for word in sorted(expanded, key=lambda word: word not in SWEEP)]
    keys = [word.lstrip("+").partition("=")[0] for word in words]
    if "resume" in keys:
        return [f"++{w}" if w.startswith("data.") else w for w in words]
    for group in (g for g in _OWN if f"{g}._target_" in keys and g not in keys):
        words = [f"++{w.lstrip('+')}" if w.lstrip("+").startswith(f"{group}.") else w for w in words]
        words, keys = [*words, f"{group}={OWN}"], [*keys, group]
    if "data" in keys:
        return words
    said = {k.removeprefix("data."): w.partition("=")[2] for k, w in zip(keys, words, strict=True)
            if k.startswith("data.")}  # fmt: skip
    return [*words, *(f"data={option}" for option in _called_for(said)[:1])]


def _expanded(word: str) -> str:
    """A word whose value begins with the user's home, which shells expand at the beginning of a word alone."""
    key, equals, value = word.partition("=")
    return f"{key}={Path(value).expanduser()}" if equals and value.startswith("~/") else word


def _called_for(said: Mapping[str, str]) -> list[str]:
    """The data options that must be given one of the values, those that have all of these values if there are some.

    Of several for a table the one that its columns are for.
    """
    options = {p.stem: option("data", p.stem) for p in sorted((conf_dir() / "data").glob("*.yaml"))}
    musts = {name: [key for key in said if values.get(key) == "???"] for name, values in options.items()}
    fitting = [name for name, keys in musts.items() if keys]
    fitting = [name for name in fitting if said.keys() <= options[name].keys()] or fitting
    tables = [name for name in fitting if "file" in musts[name]]
    return [_for_columns(said)] if len(tables) > 1 else fitting


def _for_columns(said: Mapping[str, str]) -> str:
    """The option for the table that `data.file` names."""
    plain = {key: value.strip("'\"") for key, value in said.items()}
    if not _exists(plain["file"]):
        return TABLES["texts"]
    from tl_lightning.data.images.manifest import names_images
    from tl_lightning.data.table import Format

    header = plain.get("header", "true").lower() != "false"
    written = Format(plain.get("delimiter"), plain.get("encoding"), header)
    return TABLES["images" if names_images(Path(plain["file"]), written, plain.get("root")) else "texts"]


def _quoted(word: str, sweeping: bool) -> str:
    """A word, its value quoted where Hydra would not take it as one value."""
    key, equals, value = word.partition("=")
    if not equals or key.startswith("-"):
        return word
    if (key in _PATHS or set(value) & set(_SPECIAL)) and value and _exists(value):  # a name on disk is what it is
        return f"{key}={_literal(value)}"
    if value[:1] in "'\"":
        return word
    try:
        parsed = OverridesParser.create().parse_override(word)
        if sweeping or not parsed.is_sweep_override() or key in groups():
            return word
    except HydraException:
        pass
    return f"{key}={_literal(value, interpolates=True)}"


def _literal(value: str, interpolates: bool = False) -> str:
    """A value between quotation marks, where backslashes escape before a mark alone; an interpolation may stay one."""
    if not interpolates:
        value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return quoted(value)


def _exists(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # too long for a name
        return False
