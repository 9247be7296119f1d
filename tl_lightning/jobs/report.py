"""All that there is to see of a finished run, as one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import torch
import yaml

from tl_lightning import targets
from tl_lightning.evaluation.findings import Score
from tl_lightning.jobs.evaluate import Evaluation, evaluate
from tl_lightning.jobs.judge import Judge
from tl_lightning.jobs.predict import explanations
from tl_lightning.reports import charts, html
from tl_lightning.reports.figures import FIGURES
from tl_lightning.reports.plan_table import plan_table
from tl_lightning.reports.report_page import Section, gallery, headline, picture, report_page, scrolled
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import Model
from tl_lightning.strategies.plan import Plan

_SHOWN = 12  # mistakes with pictures


def report(model: Model, judge: Judge, folder: RunFolder, out: Path | None = None, allow: Sequence[str] = ()) -> Path:
    """The page, written into the run as report.html, or to `out`; every split is evaluated on the way.

    Raises UserError if the run's samples are gone.
    """
    splits = [split for split in ("val", "test") if judge.data.samples.size(split)]
    found = {split: evaluate(judge, folder, split) for split in splits}
    model = replace(model, calibration=folder.calibration())
    first, facts, metrics = found["val"], folder.facts(), folder.metrics()
    plan: Plan = targets.build(facts["strategy"], allow).plan(facts["stages"])
    sections = [
        Section("Scores", _scores(model, found)),
        Section("Training", _training(folder, model, plan)),
        *_classes(model, first),
        *_mistakes(model, judge, first),
        Section("What learned", scrolled(html.table(*plan_table(plan)), "share of the base rate by stage and phase")),
        Section("How it was made", _made(folder, facts, metrics)),
    ]
    samples = judge.data.samples
    counts = ", ".join(f"{samples.size(s)} {s}" for s in ("train", *splits))
    said = f"{len(model.task.outputs)} {model.task.noun}, {samples.noun}: {counts}"
    path = out or folder.report
    folder.write_text(path, report_page(f"Run {folder.path.resolve().name}", said, sections))
    return path


def _scores(model: Model, found: Mapping[str, Evaluation]) -> str:
    shown = []
    for split, evaluation in found.items():
        by_name = {score.name: score for score in evaluation.scores}
        for key, name in model.task.shown.items():
            if score := by_name.get(f"{split}/{key}"):
                shown.append((f"{score.value:.3f}", f"{name}, {split}", _interval(score)))
    rows = [(s.name, s.value, s.interval) for evaluation in found.values() for s in evaluation.scores
            if "/recall/" not in s.name]  # fmt: skip
    table = html.table(("score", "value", "95 % interval"), rows)
    return f"{headline(shown)}<details><summary>all scores</summary>{scrolled(table, 'all scores')}</details>"


def _interval(score: Score) -> str:
    return f"95 %: {score.low:.3f} to {score.high:.3f}" if score.low is not None and score.high is not None else ""


def _training(folder: RunFolder, model: Model, plan: Plan) -> str:
    history = folder.history()
    losses = {
        "train": charts.column(history, "train/loss_epoch"),
        "validation": charts.column(history, "val/loss"),
    }
    if not losses["train"]:
        return "<p>The head was solved exactly: there were no epochs.</p>"
    scores = {name: charts.column(history, f"val/{key}") for key, name in model.task.shown.items()}
    rates = {name.partition("/")[2]: charts.column(history, name, by="step")
             for name in history[0] if name.startswith("rate/")}  # fmt: skip
    drawn = {
        "losses by epoch": charts.curves(losses, "loss", plan.starts),
        "validation scores by epoch": charts.curves(scores, "validation scores", plan.starts),
        "rate of each stage by step": charts.rates(rates),
    }
    parts = [picture(charts.svg(figure, what)) for what, figure in drawn.items()]
    return f'<div class="figures">{"".join(parts)}</div>'


def _classes(model: Model, evaluation: Evaluation) -> Iterator[Section]:
    """Of classes how each fares and whether probabilities mean what they say; of values predicted against true."""
    figures, tables = [], evaluation.findings.tables
    if evaluation.findings.confusion is not None and len(model.task.outputs) <= 100:
        counts = torch.tensor(evaluation.findings.confusion)
        figures.append(charts.svg(FIGURES[model.task.picture](counts, model.task.outputs), "confusion matrix"))
    if "reliability" in tables:
        figures.append(charts.svg(charts.reliability(tables["reliability"]), "reliability of the probabilities"))
    if figures:
        yield Section("Answers", f'<div class="figures">{"".join(map(picture, figures))}</div>')
    for name, rows in tables.items():
        if name == "classes":
            drawn = picture(charts.svg(charts.bars(rows), "precision and recall of each class"))
            yield Section("Classes", drawn + _details("precision, recall, F1, AUROC of each", rows))
        elif name in ("values", "abstention"):
            title = {"values": "Values", "abstention": "If only the surest were answered"}[name]
            yield Section(title, scrolled(_rows(rows), title))


def _mistakes(model: Model, judge: Judge, evaluation: Evaluation) -> Iterator[Section]:
    """The worst ones, with what the answers come from."""
    worst, places = evaluation.mistakes[:_SHOWN], list(evaluation.findings.mistakes[:_SHOWN])
    if not worst:
        return
    inputs = next(judge.raw_inputs("val", places, _SHOWN))
    with torch.no_grad():
        answers = model.network(judge.data.input.normalise(inputs)).argmax(1)
    shown = [(said, str(row["sample"]), _answer(row))
             for said, row in zip(explanations(model, inputs, answers), worst, strict=True)]  # fmt: skip
    note = "<p>What each answer comes from: warm places, or words and their weights.</p>"
    yield Section("Worst mistakes", note + gallery(shown) + _details("all of them", evaluation.mistakes))


def _answer(row: Mapping[str, Any]) -> str:
    answer = ", ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items()
                       if k not in ("sample", "true", "margin"))  # fmt: skip
    return f"{row['true']}, answered {answer}"


def _details(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    return f"<details><summary>{escape(title)}</summary>{scrolled(_rows(rows), title)}</details>"


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    return html.table(tuple(rows[0]), [["" if v is None else v for v in row.values()] for row in rows])


def _made(folder: RunFolder, facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    seconds = [
        (key.partition("/")[2], f"{value:.1f} s") for key, value in metrics.items() if key.startswith("seconds/")
    ]
    sizes = [(key.partition("/")[2] + " parameters", f"{value:,}") for key, value in metrics.items()
             if key.startswith("params/")]  # fmt: skip
    versions = [(name, str(version)) for name, version in facts.get("versions", {}).items()]
    table = html.table(("", ""), [*seconds, *sizes, *versions])
    config = yaml.safe_dump(folder.config(), sort_keys=False, allow_unicode=True)
    more = f"<details><summary>configuration</summary><pre>{escape(config)}</pre></details>"
    return scrolled(table, "time, sizes and versions") + more
