"""The runs of sweeps folded into configurations, the best first; it reads runs, and knows nothing of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl_lightning import targets
from tl_lightning.errors import UserError, nearest
from tl_lightning.evaluation.leaders import LEVEL, Summary, apart, front
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.sweep_folder import FOLDED, Job, SweepFolder, jobs_of
from tl_lightning.tasks.task import Task

_COSTS = {"seconds/total": "seconds", "memory/host": "memory, MB", "params/trainable": "trainable"}
_NAMED = ("backbone", "strategy")  # words that name a configuration which stands alone
_SPLITS = ("val/", "test/")


@dataclass(frozen=True)
class Row:
    """A configuration: its words, its jobs, every number as mean over them, and its place beside the best.

    `tie`: the seeds cannot tell it from the best; None where there are too few to say. `leads`: nothing is as good at
    less cost.
    """

    words: Mapping[str, str]
    jobs: tuple[Job, ...]
    numbers: Mapping[str, Summary]
    tie: bool | None = None
    leads: bool = False


@dataclass(frozen=True)
class Leaderboard:
    """Rows, the best first; `words` that differ; `monitor`, by which they are compared; `failed` jobs; remarks.

    `searches`: folders of sweeps that searched.
    """

    rows: tuple[Row, ...]
    words: tuple[str, ...]
    monitor: str
    rises: bool
    failed: tuple[Job, ...]
    remarks: tuple[str, ...]
    searches: tuple[Path, ...] = ()

    @property
    def best(self) -> Row:
        """The row with the best mean, however they are sorted."""
        choose = max if self.rises else min
        return choose(self.rows, key=lambda row: row.numbers[self.monitor].mean)

    @property
    def scores(self) -> list[str]:
        """Names of the numbers that are shown: the monitor, other scores, costs."""
        there = sorted({name for row in self.rows for name in row.numbers})
        names = [n for split in _SPLITS for n in there if n.startswith(split) and n.count("/") == 1]
        chosen = [self.monitor, *(n for n in names if n != self.monitor)]
        return [*chosen, *(n for n in (*_COSTS, "images_per_second") if n in there)]


def leaderboard(places: Sequence[Path], where: Mapping[str, str] | None = None, sort: str = "") -> Leaderboard:
    """Of the runs in or below some folders, those that `where` chooses by their words; `sort`: by another number.

    Raises UserError where there is no finished run, for a word or a number that there is not.
    """
    jobs, remarks = jobs_of(places)
    jobs = _chosen(jobs, where or {})
    finished = [job for job in jobs if job.metrics]
    if not finished:
        reasons = "; ".join([*remarks, *(f"{job.path}: {job.error}" for job in jobs)][:3])
        raise UserError(f"{', '.join(map(str, places))}: there is no finished run{f' ({reasons})' if reasons else ''}")
    asked = Counter(_asked(job) for job in finished)
    monitor, outputs = most = asked.most_common(1)[0][0]
    others = [job for job in finished if _asked(job) != most]
    what = f"{monitor} of {', '.join(outputs[:5])}{' ...' if len(outputs) > 5 else ''}" if outputs else monitor
    remarks += [f"{job.path}: left out, it is not about {what}" for job in others]
    compared = [job for job in finished if job not in others and monitor in job.metrics]
    rises = _mode(compared[0]) == "max"
    rows = _ranked(_folded(compared), monitor, rises)
    if sort:
        rows = _sorted(rows, sort)
    said = {key: {row.words.get(key, "") for row in rows} for row in rows for key in row.words}
    swept = tuple(key for key, values in said.items() if len(values) > 1)
    chosen = tuple(key for key in rows[0].words if key in _NAMED) or tuple(rows[0].words)[:1]  # of one configuration
    failed = tuple(job for job in jobs if not job.metrics)
    searches = tuple(place for place in places if SweepFolder(place).journal.is_file())
    return Leaderboard(tuple(rows), swept or chosen, monitor, rises, failed, tuple(remarks), searches)


def _asked(job: Job) -> tuple[str, tuple[str, ...]]:
    """By what a run was compared, and the outputs that it tells apart: runs of others are asked another question."""
    return str(job.metrics.get("monitor", "val/accuracy")), tuple(map(str, job.metrics.get("classes", ())))


def _mode(job: Job) -> str:
    """In which direction the score improves: as the run says, or its task, in runs of earlier releases."""
    if "mode" in job.metrics:
        return str(job.metrics["mode"])
    try:
        task: Task = targets.build(RunFolder(job.path).facts()["task"])
    except UserError:  # there is no model, or it is of a class of the user's own
        return "max"
    return task.mode(str(job.metrics["monitor"]))


def _chosen(jobs: Sequence[Job], where: Mapping[str, str]) -> list[Job]:
    known = {key for job in jobs for key in job.words}
    if strange := [key for key in where if key not in known]:
        raise UserError(f"where={strange[0]}=...: no run was told so: {nearest(strange[0], sorted(known))}")
    return [job for job in jobs if all(job.words.get(key) == value for key, value in where.items())]


def _folded(jobs: Sequence[Job]) -> list[Row]:
    """A row for every configuration, its repetitions together."""
    groups: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        key = tuple(sorted((k, v) for k, v in job.words.items() if k not in FOLDED))
        groups.setdefault(key, []).append(job)
    return [Row({k: v for k, v in group[0].words.items() if k not in FOLDED}, tuple(group), _numbers(group))
            for group in groups.values()]  # fmt: skip


def _numbers(group: Sequence[Job]) -> dict[str, Summary]:
    found: dict[str, list[float]] = {}
    for job in group:
        for name, value in {**job.metrics, **_pace(job.metrics)}.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found.setdefault(name, []).append(float(value))
    return {name: Summary.of(values) for name, values in found.items()}


def _pace(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Training samples a second, where there were epochs."""
    seconds, epochs, samples = (metrics.get(name) for name in ("seconds/fit", "epochs", "samples/train"))
    return {"images_per_second": samples * epochs / seconds} if seconds and epochs and samples else {}


def _ranked(rows: Sequence[Row], monitor: str, rises: bool) -> list[Row]:
    sign = 1 if rises else -1
    ordered = sorted(rows, key=lambda row: -sign * row.numbers[monitor].mean)
    by_seed = [{job.seed or str(i): float(job.metrics[monitor]) for i, job in enumerate(row.jobs)} for row in ordered]
    priced = [row for row in ordered if "seconds/total" in row.numbers]
    leading = front([sign * row.numbers[monitor].mean for row in priced],
                    [row.numbers["seconds/total"].mean for row in priced])  # fmt: skip
    leads = {id(priced[place]) for place in leading}
    found = []
    for row, scores in zip(ordered, by_seed, strict=True):
        p = apart(by_seed[0], scores)
        tie = True if row is ordered[0] else None if p is None else p >= LEVEL
        found.append(Row(row.words, row.jobs, row.numbers, tie, id(row) in leads))
    return found


def _sorted(rows: Sequence[Row], name: str) -> list[Row]:
    """By a number, the smallest first, or by a word."""
    numbers, words = {n for row in rows for n in row.numbers}, {w for row in rows for w in row.words}
    if name in numbers:
        return sorted(rows, key=lambda row: row.numbers[name].mean if name in row.numbers else float("inf"))
    if name in words:
        return sorted(rows, key=lambda row: row.words.get(name, ""))
    raise UserError(f"sort={name}: there is no such number or word: {nearest(name, sorted(numbers | words))}")
