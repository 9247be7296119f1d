"""How good a finished run is: scores with intervals, what each class is like, and where the model errs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tl_lightning.data.splits import SPLITS
from tl_lightning.errors import UserError
from tl_lightning.evaluation.calibration import Calibration
from tl_lightning.evaluation.comparison import Comparison, compare
from tl_lightning.evaluation.findings import Findings, Score
from tl_lightning.evaluation.thresholds import Aim
from tl_lightning.jobs.judge import Judge, Outputs, judged_elsewhere
from tl_lightning.reports.evaluation_page import evaluation_page
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import Model
from tl_lightning.tasks.task import Task

log = logging.getLogger(__name__)

_FEWEST = 20  # validation samples that a temperature is fitted to
_MISTAKES = 100  # that are named


@dataclass(frozen=True, repr=False)
class Evaluation(Mapping[str, float]):
    """Scores by name, as `run.metrics` names them, and what lies behind them.

    `scores` with intervals; `findings`: tables, confusion, mistakes; `mistakes`: the worst of them with their names.
    `calibration`: what was kept in the run.
    """

    split: str
    samples: int
    noun: str
    scores: Sequence[Score]
    findings: Findings
    mistakes: Sequence[Mapping[str, Any]]
    calibration: Calibration

    def __getitem__(self, name: str) -> float:
        return next(s.value for s in self.scores if s.name == name)

    def __iter__(self) -> Iterator[str]:
        return (s.name for s in self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        """In a line: of what, and the first scores."""
        first = ", ".join(f"{s.name} {s.value:.4f}" for s in self.scores[:3])
        return f"<{self.samples} {self.noun}: {first} ...>"

    def __str__(self) -> str:
        width = max(len(s.name) for s in self.scores)
        return "\n".join(f"{s.name:<{width}}  {s.value:.4f}  {s.interval}".rstrip() for s in self.scores)

    def _repr_html_(self) -> str:
        from tl_lightning.reports.html import table

        rows = [(s.name, s.value, s.interval) for s in self.scores]
        return table(("score", "value", "95 %"), rows, f"{self.split}: {self.samples} {self.noun}")

    def facts(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return {
            "split": self.split,
            "samples": self.samples,
            "scores": {s.name: {"value": s.value, "low": s.low, "high": s.high} for s in self.scores},
            "tables": dict(self.findings.tables),
            "confusion": self.findings.confusion,
            "mistakes": list(self.mistakes),
            "calibration": asdict(self.calibration),
        }


def evaluate(
    judge: Judge,
    folder: RunFolder,
    split: str = "val",
    *,
    group: str = "",
    threshold: str = "",
    tta: str = "",
    out: Path | None = None,
) -> Evaluation:
    """Everything about the answers for a split, written into `out` (the run's evaluation/) as JSON and Markdown.

    The temperature is fitted on the validation samples and kept in the run, with the thresholds that reach an aim like
    "precision:0.99" ("none" removes them); predictions obey both. `group`: a pattern in the samples' paths, or a column
    of their table; each of its groups has one answer. `tta` "flip" or "crops": the mean over views of each image, by
    which temperature and thresholds are chosen, too. Raises UserError for an empty split, for groups whose labels
    differ, and for an aim that is out of reach.
    """
    outputs = judge.outputs(split, tta)
    samples = judge.data.samples
    grouped = _grouped(outputs, samples.groups(split, group)) if group else None  # refused before anything is written
    validation = outputs if split == "val" else judge.outputs("val", tta) if samples.size("val") else None
    if validation is not None:
        folder.write_calibration(_calibrated(judge.data.task, validation, threshold, folder.calibration()))
    return _written(folder, split, judge.data.task, outputs, grouped, samples.noun, out)


def evaluate_elsewhere(
    model: Model,
    folder: RunFolder,
    where: Path,
    *,
    group: str = "",
    tta: str = "",
    out: Path | None = None,
    allow: Sequence[str] = (),
) -> Evaluation:
    """The same for another folder or table of labelled samples; it is called by its name.

    Raises UserError for labels that the run does not know.
    """
    samples, outputs = judged_elsewhere(folder.path, where, model, tta, allow)
    name = f"{where.resolve().parent.name}-{where.stem}" if where.stem in SPLITS else where.stem
    grouped = _grouped(outputs, samples.groups("test", group)) if group else None
    return _written(folder, name, model.task, outputs, grouped, samples.noun, out)


def _written(
    folder: RunFolder, name: str, task: Task, outputs: Outputs, grouped: Outputs | None, noun: str, out: Path | None
) -> Evaluation:
    kept = folder.calibration()
    findings = _judged(task, outputs, kept)
    scores = [*findings.scores, *(Score(key, value) for key, value in _trained_by(task, outputs).items())]
    if grouped:
        scores += [replace(s, name=f"group/{s.name}") for s in _judged(task, grouped, kept).scores]
    named: dict[str, Score] = {}
    for score in scores:  # the first of a name has an interval
        named.setdefault(score.name, replace(score, name=f"{name}/{score.name}"))
    mistakes = _mistakes(task, outputs, findings, kept)
    found = Evaluation(name, len(outputs.names), noun, tuple(named.values()), findings, mistakes, kept)
    into = RunFolder(out or folder.evaluation)
    into.write_json(into.path / f"{name}.json", found.facts())
    title = f"{folder.path.name}: {found.samples} {noun} of {name}"
    page = evaluation_page(title, found.scores, findings, mistakes, task.outputs, bool(kept.thresholds))
    into.write_text(into.path / f"{name}.md", page)
    return found


def versus(a: Judge, b: Judge, split: str) -> Comparison:
    """Whether B is better than A on a split that both have. Raises UserError where their samples or outputs differ."""
    task = a.data.task
    if differ := set(task.outputs) ^ set(b.data.task.outputs):
        raise UserError(
            f"the runs cannot be compared: only one of them has {task.noun} {', '.join(sorted(differ)[:5])}"
        )
    first, second = a.outputs(split), b.outputs(split)
    if first.names != second.names:
        raise UserError(
            f"the runs cannot be compared on {split}, which holds other {a.data.samples.noun} in each: split them "
            "alike by data.splits=A/splits.csv or data.split_seed"
        )
    return compare(*(task.right(o.values, o.targets).numpy() for o in (first, second)))


def _calibrated(task: Task, validation: Outputs, threshold: str, before: Calibration) -> Calibration:
    """The temperature, and the thresholds for an aim (those of `before` if none is said), of the validation samples."""
    few = len(validation.names) < _FEWEST
    temperature = 1.0 if few else task.temperature(validation.values.numpy(), validation.targets.numpy())
    if threshold in ("", "none"):
        return Calibration(temperature, before.thresholds if not threshold else ())
    predictions = task.predictions(validation.values / temperature).numpy()
    chosen = task.thresholds(Aim.parsed(threshold), predictions, validation.targets.numpy())
    log.info(f"threshold {', '.join(f'{n} {t:.4f}' for n, t in zip(task.outputs, chosen, strict=True))}")
    return Calibration(temperature, tuple(chosen))


def _judged(task: Task, outputs: Outputs, kept: Calibration) -> Findings:
    predictions = task.predictions(outputs.values / kept.temperature).numpy()
    return task.judge(predictions, outputs.targets.numpy(), kept)


def _trained_by(task: Task, outputs: Outputs) -> dict[str, float]:
    """The loss and the metrics that training reports, of the outputs as they are."""
    loss = float(task.evaluation_loss()(outputs.values, outputs.targets))
    return {"loss": loss, **task.scored(outputs.values, outputs.targets)}


def _mistakes(task: Task, outputs: Outputs, findings: Findings, kept: Calibration) -> list[dict[str, Any]]:
    """The worst ones, with what was answered."""
    places = list(findings.mistakes[:_MISTAKES])
    rows = task.rows(task.predictions(outputs.values[places] / kept.temperature).numpy())
    return [{"sample": outputs.names[i], "true": outputs.labels[i], **row} for i, row in zip(places, rows, strict=True)]


def _grouped(outputs: Outputs, groups: Sequence[str]) -> Outputs:
    """One sample for each group: the mean of its outputs. Raises UserError where labels differ within one."""
    first: dict[str, int] = {}
    for i, group in enumerate(groups):
        if outputs.labels[first.setdefault(group, i)] != outputs.labels[i]:
            raise UserError(
                f"group '{group}' holds different labels: {outputs.names[first[group]]} is "
                f"{outputs.labels[first[group]]}, {outputs.names[i]} is {outputs.labels[i]}"
            )
    place = {group: k for k, group in enumerate(first)}
    index, members = torch.tensor([place[g] for g in groups]), torch.zeros(len(first), 1)
    members.index_add_(0, index, torch.ones(len(groups), 1))
    sums = torch.zeros(len(first), outputs.values.shape[1]).index_add_(0, index, outputs.values)
    picked = list(first.values())
    return Outputs(list(first), [outputs.labels[i] for i in picked], sums / members, outputs.targets[picked])
