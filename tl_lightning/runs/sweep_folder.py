"""The runs of a sweep, as they lie on disk: finished, failed, unfinished, and what is none of ours."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tl_lightning.errors import UserError
from tl_lightning.runs.folder import FORMAT, RunFolder

REFUSED = "error.txt"  # in the folder of a job that could not be made: why
FOLDED = ("seed", "data.split_seed", "data.fold")  # words that make repetitions of one configuration
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
    def command(self) -> str:
        """What repeats it."""
        return shlex.join(["tl", "train", *(f"{key}={value}" for key, value in self.words.items())])


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder: the words that began it, and a folder for each job."""

    path: Path

    @property
    def file(self) -> Path:
        """The words."""
        return self.path / "sweep.json"

    def begin(self, words: Sequence[str]) -> None:
        """Write down the words."""
        RunFolder(self.path).write_json(self.file, {"format": FORMAT, "words": list(words)})

    def words(self) -> list[str]:
        """The words that began the sweep. Raises UserError if none was begun, or the file is damaged."""
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))["words"]
            assert all(isinstance(word, str) for word in found)
        except FileNotFoundError as error:
            raise UserError(f"{self.path} holds no sweep: {self.file.name} is missing") from error
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise UserError(f"{self.file} is damaged: begin the sweep anew in another folder") from error
        return list(found)


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
    told = [word for word in run.words() if not word.startswith("hydra.")]
    words = dict(word.lstrip("+~").partition("=")[::2] for word in told) or {"run": run.path.name}  # from Python, say
    if run.metrics_file.is_file():
        return Job(run.path, words, run.metrics())
    refused = run.path / REFUSED
    said = refused.read_text(encoding="utf-8", errors="replace").strip() if refused.is_file() else ""
    begun = any(checkpoint.is_file() for checkpoint in run.checkpoints)
    return Job(
        run.path, words, {}, said or ("it was not finished" if begun else "it was not finished, and left nothing")
    )
