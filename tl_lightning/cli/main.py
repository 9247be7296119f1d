"""Hydra's applications: `train` and `pretrain`, alone or as a sweep.

torch is imported by the job itself, so that --help and --cfg answer at once.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from tl_lightning import machine
from tl_lightning.cli.one_line_errors import one_line_errors
from tl_lightning.cli.pricing import WORD as PLAN
from tl_lightning.cli.pricing import plan
from tl_lightning.cli.sweep import already, completed, gone_on_with, only_progress, refuse_another
from tl_lightning.config.compose import check_choices, plain, register
from tl_lightning.config.explain import CAUGHT, expected, explain
from tl_lightning.config.words import arguments, is_sweep
from tl_lightning.errors import Stopped, UserError
from tl_lightning.jobs import outside_ranks
from tl_lightning.options import conf_dir
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.sweep_folder import REFUSED

log = logging.getLogger(__name__)

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
Job = Callable[[dict[str, Any], list[str]], float | None]  # (values, words) to what a sweeper optimises


def train(argv: Sequence[str]) -> None:
    """`tl train` and `python train.py`."""
    application("train", _train, argv)


def _train(values: dict[str, Any], words: list[str]) -> float:
    from tl_lightning.config.settings import settings_of
    from tl_lightning.jobs.train import train as run

    if not gc.get_freeze_count():  # once: later it would keep what is left of earlier jobs
        gc.freeze()  # a million objects of libraries, which the collector would look at again every few jobs
    metrics = run(settings_of(values), words)
    return float(metrics[metrics["monitor"]])


def pretrain(argv: Sequence[str]) -> None:
    """`tl pretrain` and `python scripts/pretrain.py`."""
    application("pretrain", _pretrain, argv)


def _pretrain(values: dict[str, Any], words: list[str]) -> None:
    from tl_lightning.jobs.pretrain import pretrain as run

    run(values, words)


def application(config_name: str, job: Job, argv: Sequence[str]) -> None:
    """Run a Hydra application on these words; exit with 1 and one line on bad input (UserError).

    `debug=true` shows the traceback instead.
    """
    machine.set_threads()
    logging.raiseExceptions = False  # a log file on a full disk: what matters ends the run with a line of its own
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the line is ours

    with one_line_errors(debug="debug=true" in argv), _stoppable(), _ranks_dismissed():
        if outside_ranks.rank():
            from tl_lightning.jobs.processes import follow_all

            return follow_all()
        register()
        words = arguments(gone_on_with(argv))
        check_choices(words)
        check_folders(words)
        if PLAN in words and config_name == "train":
            return plan([word for word in words if word != PLAN])
        if outside_ranks.rank() is not None and is_sweep(words):
            raise UserError(
                "a sweep starts the ranks of its jobs: leave torchrun or srun out (-m trainer.devices=2), or start "
                "jobs of several machines one by one"
            )
        words = completed(words)
        before, sys.argv[1:] = sys.argv[1:], words  # where Hydra reads them
        try:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(JobFunction(job))()
        finally:
            sys.argv[1:] = before


@contextmanager
def _ranks_dismissed() -> Iterator[None]:
    """At its end the ranks that wait for the first one hear that there is nothing more to do."""
    try:
        yield
    finally:
        outside_ranks.publish(None)


@dataclass(frozen=True)
class JobFunction:
    """What Hydra runs for every job; a launcher may give it to so many processes, which share this machine."""

    job: Job
    processes: int = 1
    beside: bool = False  # other jobs write on the same terminal

    def __call__(self, cfg: DictConfig) -> float | None:
        """One job; what a sweeper optimises."""
        if self.beside:
            only_progress()
        return _in_job(cfg, self.job)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.job, self.processes, os.getpid())


def _received(job: Job, processes: int, launcher: int) -> JobFunction:
    """A job function in a launcher's process, before it composes a job and imports torch."""
    machine.take_share(processes, launcher)
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register()
    return JobFunction(job, beside=True)


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
    folder = Path(told.runtime.output_dir)
    with one_line_errors(debug=bool(cfg.debug), folder=folder):
        if told.mode == RunMode.MULTIRUN:
            return _in_sweep(cfg, job, folder)
        return job(plain(cfg), list(told.overrides.task))


def _in_sweep(cfg: DictConfig, job: Job, folder: Path) -> float | None:
    """One job of a sweep: done already, gone on with, or begun; whatever it fails by is noted in its folder."""
    told = HydraConfig.get()
    values, words = plain(cfg), list(told.overrides.task)
    until = (values.get("callbacks") or {}).get("until") or {"epochs": math.inf}  # all of them
    if (done := already(folder, until["epochs"])) is not None:
        return done
    if any(checkpoint.is_file() for checkpoint in RunFolder(folder).checkpoints):
        values, words = {**values, "resume": str(folder)}, []
    try:
        return job(values, words)
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        way = f"go on with: python train.py -m sweep={told.sweep.dir}"
        by = "by hand" if number == signal.SIGINT else f"by {signal.Signals(number).name}"
        raise Stopped(f"stopped {by}; {way}", number) from stop
    except Exception as error:
        if cfg.debug:
            raise
        known = isinstance(error, CAUGHT) and expected(error)
        said = explain(error) if known else f"{type(error).__name__}: {' '.join(str(error).split())}"
        log.error(f"error: {said}", exc_info=None if known else error)
        (folder / REFUSED).write_text(said + "\n", encoding="utf-8")
        return float("nan")


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
        refuse_another(Path(folder), argv)
