"""The sections of a run's report, in the order in which they are read."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import torch
import yaml

from tl_lightning.data.samples import Samples
from tl_lightning.evaluation.findings import Score
from tl_lightning.jobs.evaluate import Evaluation
from tl_lightning.printable import printable
from tl_lightning.reports import charts, html
from tl_lightning.reports.figures import FIGURES
from tl_lightning.reports.plan_table import plan_table
from tl_lightning.reports.report_page import Section, details, headline, picture, pictures, rows_table, scrolled
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import Model
from tl_lightning.strategies.plan import Plan

_LISTED = 50  # samples that could not be used
_DRAWN = 100  # classes of a confusion matrix


def scores(model: Model, found: Mapping[str, Evaluation], metrics: Mapping[str, Any]) -> str:
    """The numbers that matter most, large; the others below."""
    shown = []
    for split, evaluation in found.items():
        by_name = {score.name: score for score in evaluation.scores}
        for key, name in model.task.shown.items():
            if score := by_name.get(f"{split}/{key}"):
                shown.append((f"{score.value:.3f}", f"{name}, {split}", _interval(score)))
    rows = [(s.name, s.value, s.interval) for evaluation in found.values() for s in evaluation.scores
            if "/recall/" not in s.name]  # fmt: skip
    table = html.table(("score", "value", "95 % interval"), rows)
    which = f"<p>{escape(_which(model, metrics))}</p>"
    return headline(shown) + which + details("all scores", scrolled(table, "all scores"))


def _which(model: Model, metrics: Mapping[str, Any]) -> str:
    """Whose scores these are: of which epoch the weights were kept."""
    best, epochs = metrics.get("best/epoch"), metrics.get("epochs", 0)
    if not epochs:
        return "The head was solved exactly: there were no epochs."
    if best == -1:
        return f"The weights are those before the first epoch, with the exact head: none of {epochs} epochs was better."
    return f"The weights are those of epoch {best}, the best of {epochs}." if best is not None else ""


def _interval(score: Score) -> str:
    return f"95 %: {score.low:.3f} to {score.high:.3f}" if score.low is not None and score.high is not None else ""


def training(folder: RunFolder, model: Model, plan: Plan) -> str:
    """Losses, scores and rates, and what learned when."""
    table = scrolled(html.table(*plan_table(plan)), "share of the base rate by stage and phase")
    history = folder.history()
    losses = {"train": charts.column(history, "train/loss_epoch"), "validation": charts.column(history, "val/loss")}
    if not losses["train"]:
        return f"<p>The head was solved exactly: there were no epochs.</p>{details('stages', table)}"
    curves = {name: charts.column(history, f"val/{key}") for key, name in model.task.shown.items()}
    rates = {name.partition("/")[2]: charts.column(history, name, by="step")
             for name in history[0] if name.startswith("rate/")}  # fmt: skip
    drawn = {
        "losses by epoch": charts.curves(losses, "loss", plan.starts),
        "validation scores by epoch": charts.curves(curves, "validation scores", plan.starts),
        "rate of each stage by step": charts.rates(rates),
        "which stage learns in which epochs": charts.timeline(plan, max(losses["train"]) + 1),
    }
    return pictures(charts.svg(figure, what) for what, figure in drawn.items()) + details("as a table", table)


def answers(model: Model, evaluation: Evaluation) -> Iterator[Section]:
    """Of classes how each fares and whether probabilities mean what they say; of values predicted against true."""
    figures, tables = [], evaluation.findings.tables
    if evaluation.findings.confusion is not None and len(model.task.outputs) <= _DRAWN:
        counts = torch.tensor(evaluation.findings.confusion)
        figures.append(charts.svg(FIGURES[model.task.picture](counts, model.task.outputs), "confusion matrix"))
    if "reliability" in tables:
        figures.append(charts.svg(charts.reliability(tables["reliability"]), "reliability of the probabilities"))
    if figures:
        yield Section("Answers", pictures(figures))
    for name, rows in tables.items():
        if name == "classes":
            drawn = picture(charts.svg(charts.bars(rows), "precision and recall of each class"))
            table = rows_table("precision, recall, F1, AUROC of each", rows)
            yield Section("Classes", drawn + details("precision, recall, F1, AUROC of each", table))
        elif name in ("values", "abstention"):
            title = {"values": "Values", "abstention": "If only the surest were answered"}[name]
            yield Section(title, rows_table(title, rows))


def data(samples: Samples) -> str:
    """How many samples there are of what, and those that could not be used, with their reason."""
    splits = [split for split in ("train", "val", "test") if samples.size(split)]
    counts = zip(samples.task.outputs, *(samples.counts(split) for split in splits), strict=True)
    table = scrolled(html.table((samples.task.noun, *splits), list(counts)), "samples of each")
    shown = table if len(samples.task.outputs) <= _LISTED else details("samples of each", table)
    if not samples.skipped:
        return shown + f"<p>All {samples.noun} could be used.</p>"
    unused = [(item.path, item.skipped) for item in samples.skipped[:_LISTED]]
    what = f"{len(samples.skipped)} {samples.noun} could not be used"
    return shown + details(what, scrolled(html.table(("sample", "why"), unused), what))


def kept(folder: RunFolder) -> Iterator[Section]:
    """How much of what it knew is still there, where that was measured."""
    history = folder.history()
    names = [name for name in (history[0] if history else {}) if name.startswith("forgetting/")]
    drawn = []
    for measure, title in (("cka", "similarity of features (CKA)"), ("distance", "distance of weights")):
        prefix = f"forgetting/{measure}/"
        lines = {n.removeprefix(prefix): charts.column(history, n) for n in names if n.startswith(prefix)}
        if any(lines.values()):
            drawn.append(charts.svg(charts.curves(lines, title), title))
    if not drawn:
        return
    agreement, best = folder.metrics().get("forgetting/agreement"), folder.metrics().get("best/epoch")
    said = ""
    if best == -1:
        said = (
            "<p>All of it: the network that was kept is the one that training began from. Curves are of training.</p>"
        )
    elif agreement is not None:
        said = f"<p>Its original classifier, put back, still says the same of {agreement:.1%}.</p>"
    yield Section("What it still knows", said + pictures(drawn))


def made(folder: RunFolder, facts: Mapping[str, Any]) -> str:
    """The command, time, memory, sizes and versions; every value, and what was said."""
    metrics, words = folder.metrics(), folder.words()
    command = f"<pre>{escape(printable(shlex.join(['tl', 'train', *words])))}</pre>" if words else ""
    seconds = [(f"{key.partition('/')[2]} time", f"{value:.1f} s") for key, value in metrics.items()
               if key.startswith("seconds/")]  # fmt: skip
    memory = [(f"{key.partition('/')[2]} memory at most", f"{value / 1e6:,.0f} MB") for key, value in metrics.items()
              if key.startswith("memory/")]  # fmt: skip
    sizes = [(f"{key.partition('/')[2]} parameters", f"{value:,}") for key, value in metrics.items()
             if key.startswith("params/")]  # fmt: skip
    versions = [(name, str(version)) for name, version in facts.get("versions", {}).items()]
    table = scrolled(
        html.table(("what", "how much"), [*seconds, *memory, *sizes, *versions]), "time, memory, sizes and versions"
    )
    config = yaml.safe_dump(folder.config(), sort_keys=False, allow_unicode=True)
    parts = [command, table, details("configuration", f"<pre>{escape(config)}</pre>")]
    if log := folder.log():
        parts.append(details("what was said in training", f"<pre>{escape(printable(log, lines=True))}</pre>"))
    return "".join(parts)
