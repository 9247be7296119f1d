"""A command line's words as Hydra takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from tl_lightning.config.compose import option
from tl_lightning.errors import UserError
from tl_lightning.options import conf_dir, groups
from tl_lightning.runs.folder import RunFolder

_SWEEP = ("-m", "--multirun")


def arguments(argv: Sequence[str]) -> list[str]:
    """The words as Hydra takes them.

    -m goes to the front (between overrides argparse would not take it); values that Hydra cannot parse, like paths with
    spaces, are quoted; where a value is named that one data option alone must be given, like `data.root`, that option
    is added. What a resumed run reads elsewhere is not among the options that this command line composes.
    """
    sweeping = any(word in _SWEEP for word in argv)
    words = [_quoted(word, sweeping) for word in sorted(argv, key=lambda word: word not in _SWEEP)]
    keys = [word.lstrip("+").partition("=")[0] for word in words]
    if "resume" in keys:
        return [f"++{w}" if w.startswith("data.") else w for w in words]
    if "data" in keys:
        return words
    named = [key.removeprefix("data.") for key in keys if key.startswith("data.")]
    return [*words, *(f"data={option}" for option in _called_for(named)[:1])]


def _called_for(named: Sequence[str]) -> list[str]:
    """The data options that must be given one of the named values."""
    files = sorted(p.stem for p in (conf_dir() / "data").glob("*.yaml"))
    return [name for name in files if any(option("data", name).get(key) == "???" for key in named)]


def _quoted(word: str, sweeping: bool) -> str:
    """A word, its value quoted where Hydra would not take it as one value."""
    key, equals, value = word.partition("=")
    if not equals or key.startswith("-") or value[:1] in "'\"":
        return word
    try:
        parsed = OverridesParser.create().parse_override(word)
        if sweeping or not parsed.is_sweep_override() or key in groups():
            return word
    except HydraException:
        pass
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}="{escaped}"'


def check_resume(argv: Sequence[str]) -> None:
    """Raise UserError before Hydra makes a folder of a misspelt name."""
    for word in argv:
        if word.startswith("resume=") and word not in ("resume=null", "resume="):
            run = RunFolder(Path(word.partition("=")[2].strip("'\"")).expanduser())
            if not run.config_file.is_file():
                raise UserError(f"resume={run.path} cannot be resumed: {run.config_file.name} is missing there")
