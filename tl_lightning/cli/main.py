"""The command line: composes a configuration, prints one line when something can be put right by the user.

torch is imported by the run itself, so that --help and --cfg answer at once.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import tl_lightning
from tl_lightning import machine
from tl_lightning.errors import UserError, nearest

log = logging.getLogger(__name__)

_refused: list[str] = []  # numbers of a sweep's jobs
_PATHS = ("data.root", "data.file", "data.splits", "backbone.name", "backbone.weights", "resume", "hydra.run.dir")
_HINTS = {
    "LexerNoViableAlt": "; quote a value of spaces or brackets, e.g. 'key=\"a (b)\"'",
    "mismatched input": "; quote a value of spaces or brackets, e.g. 'key=\"a (b)\"'",
}


def conf_dir() -> Path:
    """The configuration groups: inside the installed package, or beside it in a checkout."""
    package = Path(tl_lightning.__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def choices(group: str) -> list[str]:
    """The options of a configuration group."""
    return sorted(p.stem for p in (conf_dir() / group).glob("*.yaml"))


def train() -> None:
    """`python train.py` and `tl-train`."""

    def run(cfg: DictConfig) -> None:
        from tl_lightning.runs.train import train as train_run

        train_run(cfg)

    main("train", run)


def pretrain() -> None:
    """`python scripts/pretrain.py`."""

    def run(cfg: DictConfig) -> None:
        from tl_lightning.runs.pretrain import pretrain as pretrain_run

        pretrain_run(cfg)

    main("pretrain", run)


def main(config_name: str, run: Callable[[DictConfig], None]) -> None:
    """Run a Hydra application on the command line's arguments; exit with 1 and one line on bad input.

    `debug=true` shows the traceback instead.
    """
    machine.set_threads()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the line is ours
    register_resolvers()
    sys.argv[1:] = arguments(sys.argv[1:])
    job = one_line_errors(in_job=True)(run)
    with one_line_errors():
        check_choices(sys.argv[1:])
        check_resume(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(job)()
        if _refused:
            raise UserError(f"{len(_refused)} of the sweep's runs could not be made: {', '.join(_refused)}")


@contextmanager
def one_line_errors(in_job: bool = False) -> Iterator[None]:
    """Also inside the job, where Hydra would print the overrides first; SystemExit passes it by.

    A sweep goes on with its next job: there the error is logged, and the number of the job said again at the end.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped by hand", file=sys.stderr)
        sys.exit(1)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if "debug=true" in sys.argv:
            raise
        if in_job and {"-m", "--multirun"} & set(sys.argv):
            log.error(f"error: {explain(error)}")
            _refused.append(str(HydraConfig.get().job.num))
            return
        print(f"error: {explain(error)}", file=sys.stderr)
        _leave_no_empty_run()
        sys.exit(1)


def _leave_no_empty_run() -> None:
    """Remove the folder of a run that was refused before it wrote anything of its own."""
    if HydraConfig.initialized():
        run = Path(HydraConfig.get().runtime.output_dir)
        if {p.name for p in run.iterdir()} <= {".hydra", "train.log", "pretrain.log"}:
            shutil.rmtree(run)


def _hydra_dir(resume: str | None) -> str:
    """Where Hydra keeps its files in the run: apart when resuming, so that the words that began it stay."""
    return ".hydra" if resume is None else f".hydra/resumed-{datetime.now():%Y-%m-%d_%H-%M-%S}"


def register_resolvers() -> None:
    """`${digits:}`: the embedded digits; `${first:a,b}`: b if a is null; `${hydra_dir:resume}`: Hydra's own folder."""

    def digits() -> str:
        from tl_lightning.data.digits import folder

        return folder()

    OmegaConf.register_new_resolver("digits", digits, replace=True)
    OmegaConf.register_new_resolver("first", lambda a, b: b if a is None else a, replace=True)
    OmegaConf.register_new_resolver("hydra_dir", _hydra_dir, replace=True)


def arguments(argv: Sequence[str]) -> list[str]:
    """The arguments as Hydra takes them.

    -m goes to the front (between overrides argparse would not take it); paths with spaces and the like are quoted;
    `data=image_folder` is added where a root is named and no data option, `data=text_csv` where a file is. What a
    resumed run reads elsewhere is not among the options that this command line composes.
    """
    argv = [_quoted(a) for a in sorted(argv, key=lambda a: a not in ("-m", "--multirun"))]
    if any(a.startswith("resume=") for a in argv):
        argv = [f"+{a}" if a.startswith("data.file=") else a for a in argv]
    keys = [a.lstrip("+").partition("=")[0] for a in argv]
    kinds = {"data.root": "image_folder", "data.file": "text_csv"}
    kind = next((option for key, option in kinds.items() if key in keys), None)
    return [*argv, f"data={kind}"] if kind and not {"data", "resume"} & set(keys) else argv


def _quoted(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if key not in _PATHS or re.fullmatch(r"[\w./:+,~-]*", value, re.ASCII) or value[:1] in "'\"":
        return argument
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}{equals}"{escaped}"'


def check_resume(argv: Sequence[str]) -> None:
    """UserError before Hydra makes a folder of a misspelt name."""
    for argument in argv:
        if argument.startswith("resume=") and argument not in ("resume=null", "resume="):
            folder = Path(argument.partition("=")[2].strip("'\"")).expanduser()
            if not (folder / "config.yaml").is_file():
                raise UserError(f"resume={folder} cannot be resumed: config.yaml is missing there")


def check_choices(argv: Sequence[str]) -> None:
    """UserError with the nearest options for a group option that does not exist (sweeps: any of a list)."""
    for argument in argv:
        group, _, value = argument.partition("=")
        known = choices(group) if group.isidentifier() and value else []
        for option in (o.strip() for o in value.split(",")) if known else []:
            is_word = option.replace("_", "").isalnum()  # a sweep may also say glob(...) or choice(...)
            if is_word and option not in known and (group, option) != ("experiment", "null"):
                raise UserError(f"there is no {group} '{option}': {nearest(option, known)}")


def explain(error: Exception) -> str:
    """One line for an exception of ours, of Hydra's or of OmegaConf's; a cause of ours wins."""
    cause: Any = error
    while cause is not None:
        if isinstance(cause, UserError):
            return " ".join(str(cause).split())
        cause = cause.__cause__
    if isinstance(error, MissingConfigException) and error.options:
        return f"{str(error).splitlines()[0]} {nearest(str(error.missing_cfg_file), error.options)}"
    first = str(error).strip().splitlines()[0].rstrip(".")
    if match := re.match(r"Could not override '(.+)'", first):
        return f"there is no option '{match[1]}'{_near_key(match[1])}; python train.py --cfg job lists them all"
    return first + next((hint for sign, hint in _HINTS.items() if sign in str(error)), "")


def _near_key(key: str) -> str:
    """Where an option that is not in this composition can be found, or what its name may have been meant to be."""
    group, _, name = key.partition(".")
    owners = [o for o in choices(group) if name in OmegaConf.load(conf_dir() / group / f"{o}.yaml")] if name else []
    if owners:
        return f" in what is chosen: it belongs to {group}={' or '.join(owners)}"
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        keys = list(_keys(hydra.compose("train")))
    same = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]]
    close = same or difflib.get_close_matches(key, keys, n=3, cutoff=0.7)
    return f": did you mean {' or '.join(close[:3])}?" if close else ""


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in map(str, node):
        yield prefix + name
        if OmegaConf.is_dict(node._get_node(name)):
            yield from _keys(node[name], f"{prefix}{name}.")
