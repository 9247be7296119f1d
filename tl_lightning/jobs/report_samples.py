"""Samples in a run's report, with what their answers come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from tl_lightning.errors import UserError
from tl_lightning.jobs.evaluate import Evaluation
from tl_lightning.jobs.judge import Judge
from tl_lightning.jobs.predict import explanations
from tl_lightning.reports.report_page import Section, details, gallery, rows_table
from tl_lightning.runs.model import Model

_SHOWN = 12  # samples


def mistakes(model: Model, judge: Judge, evaluation: Evaluation) -> Iterator[Section]:
    """The worst ones."""
    worst = evaluation.mistakes[:_SHOWN]
    if not worst:
        return
    said = [f"{row['true']}, answered {_answer(row)}" for row in worst]
    shown = _gallery(model, judge, evaluation.findings.mistakes[:_SHOWN], said)
    table = rows_table("all of them", evaluation.mistakes)
    yield Section("Worst mistakes", shown + details("all of them", table))


def typical(model: Model, judge: Judge, evaluation: Evaluation) -> Iterator[Section]:
    """The surest right answer of each class."""
    places = list(evaluation.findings.typical[:_SHOWN])
    if not places:
        return
    items = judge.data.samples.used("val")
    yield Section("Typical ones", _gallery(model, judge, places, [items[i].label for i in places]))


def _gallery(model: Model, judge: Judge, places: Sequence[int], said: Sequence[str]) -> str:
    """Samples of val with what the answers come from; without, where the network has nothing to show."""
    samples = judge.data.samples
    items = samples.used("val")
    names = [samples.described(items[place]) for place in places]
    inputs = next(judge.raw_inputs("val", places, _SHOWN))
    with torch.no_grad():
        answers = model.network(judge.data.input.normalise(inputs)).argmax(1)
    try:
        explained = explanations(model, inputs, answers)
    except UserError:
        explained = [""] * len(names)
    note = "<p>What each answer comes from: warm places, or words and their weights.</p>"
    return (note if any(explained) else "") + gallery(list(zip(explained, names, said, strict=True)))


def _answer(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items()
                     if k not in ("sample", "true", "margin"))  # fmt: skip
