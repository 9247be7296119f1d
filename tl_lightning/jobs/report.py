"""All that there is to see of a finished run, as one page; of two runs, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tl_lightning import targets
from tl_lightning.errors import UserError
from tl_lightning.jobs import report_samples, report_sections
from tl_lightning.jobs.evaluate import Evaluation, evaluate, versus
from tl_lightning.jobs.judge import Judge
from tl_lightning.reports import html, report_two
from tl_lightning.reports.report_page import Section, report_page
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import Model
from tl_lightning.strategies.plan import Plan


@dataclass(frozen=True)
class Reported:
    """The page, and what every split was found to be."""

    path: Path
    evaluations: Mapping[str, Evaluation]


def report(
    model: Model, judge: Judge, folder: RunFolder, out: Path | None = None, allow: Sequence[str] = ()
) -> Reported:
    """The page, written into the run as report.html, or to `out`; every split is evaluated on the way.

    Raises UserError if the run's samples are gone.
    """
    splits = [split for split in ("val", "test") if judge.data.samples.size(split)]
    found = {split: evaluate(judge, folder, split) for split in splits}
    model = replace(model, calibration=folder.calibration())
    first, facts = found["val"], folder.facts()
    plan: Plan = targets.build(facts["strategy"], allow).plan(facts["stages"])
    sections = [
        Section("Scores", report_sections.scores(model, found, folder.metrics())),
        Section("Training", report_sections.training(folder, model, plan)),
        *report_sections.answers(model, first),
        *report_samples.mistakes(model, judge, first),
        *report_samples.typical(model, judge, first),
        Section("Data", report_sections.data(judge.data.samples)),
        *report_sections.kept(folder),
        Section("How it was made", report_sections.made(folder, facts)),
    ]
    samples = judge.data.samples
    counts = ", ".join(f"{samples.size(s)} {s}" for s in ("train", *splits))
    said = f"{len(model.task.outputs)} {model.task.noun}, {samples.noun}: {counts}"
    path = out or folder.report
    folder.write_text(path, report_page(f"Run {folder.path.resolve().name}", said, sections))
    return Reported(path, found)


def report_of_two(a: Judge, b: Judge, folders: tuple[RunFolder, RunFolder], out: Path | None = None) -> Path:
    """Two runs side by side, written into the first one or to `out`: what differs in their words, scores and answers.

    Raises UserError where they are of other outputs, or of other validation samples.
    """
    if a.data.task.outputs != b.data.task.outputs:
        raise UserError(f"the runs cannot stand side by side: their {a.data.task.noun} differ")
    names = tuple(_named(folder.path.resolve()) for folder in folders)
    # gone through once: what follows asks for the same outputs
    judges = [replace(judge, known={"val": judge.outputs("val").values}) for judge in (a, b)]
    verdict = str(versus(judges[0], judges[1], "val"))
    found = [evaluate(judge, folder, "val") for judge, folder in zip(judges, folders, strict=True)]
    sections = [
        Section("Which is better", report_two.scores(verdict, [e.scores for e in found])),
        Section("Curves", report_two.curves([f.history() for f in folders], a.data.task.shown)),
        *report_two.classes([e.findings.tables.get("classes", ()) for e in found]),
        *report_two.answers(_answers(judges, found), [set(e.findings.mistakes) for e in found]),
        Section("Different words", report_two.words([f.config("RUN") for f in folders])),
    ]
    path = out or folders[0].path / f"report_with_{names[1]}.html"
    said = f"A is {names[0]}, B is {names[1]}; {found[0].samples} validation {found[0].noun}"
    folders[0].write_text(path, report_page("Two runs", said, sections))
    return path


def _named(folder: Path) -> str:
    """A run's name; of a sweep's job, which is a number, with that of the sweep."""
    return f"{folder.parent.name}-{folder.name}" if folder.name.isdigit() else folder.name


def _answers(judges: Sequence[Judge], found: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """What each of two runs says of every validation sample; nothing where no answer is right or wrong."""
    if not all("classes" in evaluation.findings.tables for evaluation in found):
        return []
    rows = []
    for judge, evaluation in zip(judges, found, strict=True):
        task, kept = judge.data.task, evaluation.calibration
        predictions = task.predictions(judge.known["val"] / kept.temperature).numpy()
        rows.append(task.answers(predictions, kept.thresholds))
    items = judges[0].data.samples.used("val")
    return [{"sample": item.path, "true": item.label, "A": html.said(a), "B": html.said(b)}
            for item, a, b in zip(items, *rows, strict=True)]  # fmt: skip
