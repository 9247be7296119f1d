"""A sweep from its first job to its leaderboard: begun, gone on with, never mixed with another."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from tl_lightning.config.compose import new_folder
from tl_lightning.config.words import SWEEP, is_sweep
from tl_lightning.errors import UserError, nearest
from tl_lightning.options import options
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.sweep_folder import REFUSED, SweepFolder

log = logging.getLogger(__name__)

_VARIABLE = "TL_SWEEP"  # for loggers that show the jobs of a sweep together
_SHARE = 0.05  # of a sweep's time that leaderboards may take before its end


def gone_on_with(words: Sequence[str]) -> list[str]:
    """The words of a command line; for `sweep=FOLDER`, which is no option's name, those that began that sweep.

    Raises UserError if no sweep was begun there, or if other words stand beside it.
    """
    said = next((word.partition("=")[2].strip("'\"") for word in words if word.startswith("sweep=")), None)
    if said is None or said in (*options("sweep"), "null"):
        return list(words)
    if not said:
        raise UserError(f"sweep= names no sweep: a folder, or {', '.join(options('sweep'))}")
    folder = SweepFolder(Path(said).expanduser())
    if not folder.file.is_file():
        raise UserError(f"{said} holds no sweep, nor is it a ready one: {nearest(said, options('sweep'))}")
    begun = folder.words()
    others = [w for w in words if not w.startswith("sweep=") and w not in (*SWEEP, "debug=true")]
    if others:
        raise UserError(f"sweep={said} goes on with the words that began it: leave out {others[0]}")
    return ["-m", *begun, f"hydra.sweep.dir='{folder.path}'", *(w for w in words if w == "debug=true")]


def completed(words: Sequence[str]) -> list[str]:
    """The words of a sweep with the name of its folder, made now: every process of it is to use the one.

    Raises UserError for a SLURM that is not there.
    """
    if not is_sweep(words):
        return list(words)
    if "hydra/launcher=submitit_slurm" in words and not shutil.which("sbatch"):
        raise UserError("hydra/launcher=submitit_slurm: there is no SLURM here (sbatch is not found): start it on the "
                        "cluster's login node, or take submitit_local or joblib")  # fmt: skip
    more = []
    folder = next((word.partition("=")[2].strip("'\"") for word in words if word.startswith("hydra.sweep.dir=")), "")
    if not folder:
        folder = new_folder(f"multirun/{datetime.now():%Y-%m-%d/%H-%M-%S}")
        more.append(f"hydra.sweep.dir='{folder}'")
    name = Path(folder).absolute().as_posix().strip("/").replace("/", ":")  # and no path
    os.environ[_VARIABLE] = name[-120:]
    return [*words, *more]


def only_progress() -> None:
    """On the terminal, which other jobs share, only warnings and how far the sweep has come; log files hold all."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name == __name__)


def refuse_another(folder: Path, words: Sequence[str]) -> None:
    """Raise UserError if a sweep's folder holds the runs of another one."""
    sweep = SweepFolder(folder)
    if sweep.file.is_file() and sweep.words() == _plain(words):
        return
    for job in folder.glob("[0-9]*"):
        RunFolder(job).refuse_run()


def _plain(words: Sequence[str]) -> list[str]:
    """Words without those that say where, and how to show errors."""
    return [w for w in words if w not in (*SWEEP, "debug=true") and not w.startswith("hydra.sweep.dir=")]


def already(folder: Path, until: float) -> float | None:
    """The score of a job that is done; what is left of one that cannot be gone on with is removed.

    `until`: one that a sweep has stopped before so many epochs is not done.
    """
    run = RunFolder(folder)
    (folder / REFUSED).unlink(missing_ok=True)
    metrics = run.metrics() if run.metrics_file.is_file() else {}
    if metrics and not (metrics.get("ended_by") == "until" and metrics["epochs"] < until):
        log.info(f"done      {folder}")
        return float(metrics[metrics["monitor"]])
    if not any(checkpoint.is_file() for checkpoint in run.checkpoints):
        run.remove_begun()
    return None


class Summary(Callback):
    """The leaderboard of a sweep, while it goes on as files in its folder, at its end as a table, too.

    One process at a time works on a sweep. Ends the program with code 1 and one line if some of the runs could not be
    made.
    """

    def __init__(self) -> None:
        self._lock: FileLock | None = None
        self._due = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process with a job: not the lock, which is held by this one."""
        return {**vars(self), "_lock": None}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write down the words, by which the sweep can be gone on with."""
        sweep = SweepFolder(Path(config.hydra.sweep.dir))
        sweep.path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(sweep.path / ".lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            sys.exit(f"error: another process works on the sweep in {sweep.path}: wait for it, or name another folder")
        sweep.begin(_plain(sys.argv[1:]))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Say how far the sweep has come; write the leaderboard of what is done, now and then."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        if progress := SweepFolder(Path(config.hydra.sweep.dir)).progress():
            score = (
                ""
                if job_return.return_value is None
                else f"; job {config.hydra.sweep.subdir}: {job_return.return_value:.4f}"
            )
            log.info(f"sweep     {progress}{score}")
        if time.monotonic() >= self._due:
            began = time.monotonic()
            _write(Path(config.hydra.sweep.dir), show=False)
            self._due = time.monotonic() + (time.monotonic() - began) / _SHARE

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print it, and write it."""
        sweep = Path(config.hydra.sweep.dir)
        _write(sweep, show=True)
        if self._lock:
            self._lock.release()
        if refused := sorted((p.parent.name for p in sweep.glob(f"*/{REFUSED}")), key=int):
            sys.exit(f"error: {len(refused)} of the sweep's runs could not be made: {', '.join(refused)}")


def _write(sweep: Path, show: bool) -> None:
    from tl_lightning.cli.tools import show_leaderboard
    from tl_lightning.jobs.leaderboard import leaderboard
    from tl_lightning.jobs.leaderboard_page import write

    try:
        board = show_leaderboard([sweep], {}) if show else leaderboard([sweep])
        files = write(board, sweep)
    except UserError as error:  # no run was finished
        files, said = [], f"leaderboard: {error}"
    if show:
        print(files[-1] if files else said)
