"""Hydra's applications: `train` and `pretrain`, alone or as a sweep.

torch is imported by the job itself, so that --help and --cfg answer at once.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from tl_lightning import machine
from tl_lightning.config.compose import check_choices, plain, register
from tl_lightning.config.explain import CAUGHT, expected, explain
from tl_lightning.config.words import arguments
from tl_lightning.errors import Stopped, UserError
from tl_lightning.options import conf_dir
from tl_lightning.printable import printable
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.sweep_folder import REFUSED

log = logging.getLogger(__name__)

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
Job = Callable[[dict[str, Any], list[str], str], float | None]  # (values, words, label) to what a sweeper optimises


def train(argv: Sequence[str]) -> None:
    """`tl train` and `python train.py`."""

    def job(values: dict[str, Any], words: list[str], label: str) -> float:
        from tl_lightning.config.settings import settings_of
        from tl_lightning.jobs.train import train as run

        metrics = run(settings_of(values), words, label)
        return float(metrics[metrics["monitor"]])

    application("train", job, argv)


def pretrain(argv: Sequence[str]) -> None:
    """`tl pretrain` and `python scripts/pretrain.py`."""

    def job(values: dict[str, Any], words: list[str], label: str) -> None:
        from tl_lightning.jobs.pretrain import pretrain as run

        run(values, words)

    application("pretrain", job, argv)


def application(config_name: str, job: Job, argv: Sequence[str]) -> None:
    """Run a Hydra application on these words; exit with 1 and one line on bad input.

    `debug=true` shows the traceback instead.
    """
    machine.set_threads()
    logging.raiseExceptions = False  # a log file on a full disk: what matters ends the run with a line of its own
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the line is ours

    def run(cfg: DictConfig) -> float | None:
        return _in_job(cfg, job)

    with one_line_errors(debug="debug=true" in argv), _stoppable():
        register()
        words = arguments(argv)
        check_choices(words)
        check_folders(words)
        before, sys.argv[1:] = sys.argv[1:], words  # where Hydra reads them
        try:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(run)()
        finally:
            sys.argv[1:] = before


@contextmanager
def _stoppable() -> Iterator[None]:
    """While inside, a scheduler's SIGTERM and the closing of the terminal are an interrupt like Ctrl-C."""
    before = {number: signal.signal(number, _stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(f"stopped by {signal.Signals(number).name}", number)


def _in_job(cfg: DictConfig, job: Job) -> float | None:
    """One job. In a sweep an error is noted in its folder, and the sweep goes on; else it ends the program."""
    told = HydraConfig.get()
    sweeping = told.mode == RunMode.MULTIRUN
    folder = Path(told.runtime.output_dir)
    with one_line_errors(debug=bool(cfg.debug), folder=folder):
        try:
            return job(plain(cfg), list(told.overrides.task), told.job.override_dirname)
        except CAUGHT as error:
            if not sweeping or cfg.debug or not expected(error):
                raise
            log.error(f"error: {explain(error)}")
            (folder / REFUSED).write_text(explain(error) + "\n", encoding="utf-8")
            return float("nan")


@contextmanager
def one_line_errors(debug: bool = False, folder: Path | None = None) -> Iterator[None]:
    """What a user can put right as one line, and exit code 1; the `folder` of a run that was refused is removed.

    Also inside of the job, where Hydra would print the overrides first; SystemExit passes it by.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        print(printable(str(stop) or "stopped by hand"), file=sys.stderr)
        sys.exit(stop.exit_code if isinstance(stop, Stopped) else 128 + signal.SIGINT)
    except BrokenPipeError:  # whoever reads has seen enough: tl ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except CAUGHT as error:
        if debug or not expected(error):
            raise
        print(f"error: {printable(explain(error))}", file=sys.stderr)
        if folder is not None and {p.name for p in folder.iterdir()} <= {".hydra", "train.log", "pretrain.log"}:
            shutil.rmtree(folder)  # nothing of its own is there
        sys.exit(error.exit_code if isinstance(error, UserError) else 1)


def check_folders(argv: Sequence[str]) -> None:
    """Raise UserError before Hydra makes a folder of a misspelt name, or writes into that of another run."""
    said = {key.lstrip("+"): value.strip("'\"") for key, _, value in (word.partition("=") for word in argv)}
    resume = said.get("resume") or "null"
    if resume != "null":
        run = RunFolder(Path(resume).expanduser())
        if not run.config_file.is_file():
            raise UserError(f"resume={run.path} cannot be resumed: {run.config_file.name} is missing there")
    elif folder := said.get("hydra.run.dir"):
        RunFolder(Path(folder)).refuse_run()
    if folder := said.get("hydra.sweep.dir"):
        for job in Path(folder).glob("[0-9]*"):
            RunFolder(job).refuse_run()
