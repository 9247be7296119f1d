"""The runs of a sweep, as they lie on disk: finished, failed, unfinished, and what is none of ours."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tl_lightning.errors import UserError
from tl_lightning.runs.folder import FORMAT, RunFolder

REFUSED = "error.txt"  # in the folder of a job that could not be made: why
FOLDED = ("seed", "data.split_seed", "data.fold")  # words that make repetitions of one configuration
STEERING = ("pruning", "until")  # callbacks by which a sweep stops its jobs
_STEERING = tuple(f"callbacks.{name}" for name in STEERING)
_SKIPPED = frozenset((".hydra", "checkpoints", "tensorboard", "evaluation", "export", "backbone", "predictions"))


@dataclass(frozen=True)
class Job:
    """A run's folder: the words it was told, its metrics if it was finished, else why not."""

    path: Path
    words: Mapping[str, str]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def seed(self) -> str:
        """What tells it from repetitions."""
        return ", ".join(f"{name}={self.words[name]}" for name in FOLDED if name in self.words)

    @property
    def stopped(self) -> bool:
        """Whether its sweep has stopped it before its last epoch."""
        return self.metrics.get("ended_by") in STEERING

    @property
    def command(self) -> str:
        """What repeats it."""
        return shlex.join(["tl", "train", *(f"{key}={value}" for key, value in self.words.items())])


@dataclass(frozen=True)
class Progress:
    """`done` of `jobs`, of which `before` had been done when this part of the sweep began, `seconds` ago."""

    done: int
    jobs: int
    before: int
    seconds: float

    def __str__(self) -> str:
        filled = round(20 * self.done / max(1, self.jobs))
        bar = "\u2588" * filled + "\u2591" * (20 - filled)
        said = f"{bar} {self.done} of {self.jobs}"
        if not self.before < self.done < self.jobs:
            return said
        left = self.seconds / (self.done - self.before) * (self.jobs - self.done)
        return f"{said}, about {duration(left)} left"


def duration(seconds: float) -> str:
    """For people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder: the words that began it, and a folder for each job."""

    path: Path

    @property
    def file(self) -> Path:
        """The words."""
        return self.path / "sweep.json"

    @property
    def journal(self) -> Path:
        """The trials of a search."""
        return self.path / "search.log"

    def job(self, number: int) -> Path:
        """The folder of a job."""
        return self.path / str(number)

    def score(self, number: int) -> float | None:
        """What a job is monitored by, the higher the better; None of one that is not finished."""
        run = RunFolder(self.job(number))
        if not run.metrics_file.is_file() or (run.path / REFUSED).is_file():  # which failed when it was gone on with
            return None
        metrics = run.metrics()
        score = metrics[metrics["monitor"]]
        sign = 1 if metrics["mode"] == "max" else -1
        return None if score is None else sign * float(score)

    def forget(self, number: int) -> None:
        """Remove what a job has begun to write, and that it was begun."""
        RunFolder(self.job(number)).remove_begun()
        shutil.rmtree(self.job(number) / ".hydra", ignore_errors=True)

    def begin(self, words: Sequence[str]) -> None:
        """Write down the words; of a sweep that is gone on with, what was noted stays."""
        noted = self._read() if self.file.is_file() and self.words() == list(words) else {}
        RunFolder(self.path).write_json(self.file, {**noted, "format": FORMAT, "words": list(words)})

    def note(self, **values: Any) -> None:
        """Write something down that a sweep which is gone on with shall not decide anew."""
        RunFolder(self.path).write_json(self.file, {**self._read(), **values})

    def noted(self, name: str) -> Any:
        """What was written down; None for nothing, also where this is no sweep."""
        try:
            return self._read().get(name)
        except UserError:
            return None

    def expect(self, jobs: int, swept: Sequence[str]) -> None:
        """Write down that so many jobs are to come, some of which may be done already, and the words they differ in."""
        self.note(jobs=jobs, swept=list(swept), done=len(self.done()), began=time.time())

    def swept(self) -> list[str] | None:
        """The words in which the jobs differ; None where this is no sweep, or one of which nobody has said so."""
        found = self.noted("swept")
        return [str(name) for name in found] if isinstance(found, list) else None

    def done(self) -> list[Path]:
        """Folders of the jobs that have ended, well or not."""
        ended = (RunFolder(self.path).metrics_file.name, REFUSED)
        return [job for job in self.path.glob("[0-9]*") if any((job / name).is_file() for name in ended)]

    def progress(self) -> Progress | None:
        """How far the sweep has come; None where nobody has said how many jobs there are."""
        jobs, done, began = (self.noted(name) for name in ("jobs", "done", "began"))
        return Progress(len(self.done()), jobs, done, time.time() - began) if jobs and began else None

    def words(self) -> list[str]:
        """The words that began the sweep. Raises UserError if none was begun, or the file is damaged."""
        return list(self._read()["words"])

    def _read(self) -> dict[str, Any]:
        """Raises UserError as `words`."""
        try:
            found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
            assert all(isinstance(word, str) for word in found["words"])
        except FileNotFoundError as error:
            raise UserError(f"{self.path} holds no sweep: {self.file.name} is missing") from error
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise UserError(f"{self.file} is damaged: begin the sweep anew in another folder") from error
        return found


def jobs_of(places: Sequence[Path]) -> tuple[list[Job], list[str]]:
    """Every run in or below some folders, in order, and remarks on what cannot be read.

    Raises UserError for a place that is no folder.
    """
    found, remarks = [], []
    for place in places:
        if not place.is_dir():
            raise UserError(f"{place} is no folder: name a sweep, or a run")
        for folder in _folders(place):
            run = RunFolder(folder)
            try:
                found.append(_job(run))
            except UserError as error:
                remarks.append(str(error))
    return found, remarks


def _folders(place: Path) -> Iterator[Path]:
    """Those that hold a run, or the beginning of one."""
    if any((place / name).exists() for name in (".hydra", REFUSED)) or RunFolder(place).metrics_file.is_file():
        if (place / ".hydra").is_dir() or RunFolder(place).metrics_file.is_file():
            yield place
            return
    below = [f for f in place.iterdir() if f.is_dir() and not f.is_symlink() and f.name not in _SKIPPED]
    for folder in sorted(below, key=lambda f: (not f.name.isdigit(), int(f.name) if f.name.isdigit() else 0, f.name)):
        yield from _folders(folder)


def _job(run: RunFolder) -> Job:
    told = [word for word in run.words() if not word.lstrip("+").startswith(("hydra.", *_STEERING))]
    words = dict(word.lstrip("+~").partition("=")[::2] for word in told) or {"run": run.path.name}  # from Python, say
    refused = run.path / REFUSED
    if run.metrics_file.is_file() and not refused.is_file():
        return Job(run.path, words, run.metrics())
    said = refused.read_text(encoding="utf-8", errors="replace").strip() if refused.is_file() else ""
    begun = any(checkpoint.is_file() for checkpoint in run.checkpoints)
    return Job(
        run.path, words, {}, said or ("it was not finished" if begun else "it was not finished, and left nothing")
    )
