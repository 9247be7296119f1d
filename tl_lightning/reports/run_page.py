"""A run as a notebook shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import torch

from tl_lightning import targets
from tl_lightning.reports import html
from tl_lightning.reports.figures import FIGURES
from tl_lightning.strategies.plan import HEAD, Plan
from tl_lightning.tasks.task import Task


def page(
    title: str,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any],
    overviews: Mapping[str, Any],
    allow: Sequence[str] = (),
) -> str:
    """Scores, the task's picture, and what each stage learned, from what the files of a run's folder hold."""
    task: Task = targets.build(facts["task"], allow)
    parts = [f"<p><b>{escape(title)}</b></p>"]
    rows = [
        (name, *(metrics.get(f"{split}/{key}", "") for split in ("val", "test"))) for key, name in task.shown.items()
    ]
    parts.append(html.table(("score", "validation", "test"), rows, "scores of the best weights"))
    for split, values in overviews.items():
        figure = FIGURES[task.picture](torch.tensor(values), task.outputs)
        parts.append(html.picture(figure, f"{task.picture}, {split}"))
    plan: Plan = targets.build(facts["strategy"], allow).plan(facts["stages"])
    solved = ("before",) if plan.solve else ()
    phases = [f"from epoch {first}" for first, _ in zip(plan.starts, plan.phases, strict=False)]
    title = f"what learned: share of the base rate ({_named(facts)})"
    parts.append(html.table(("stage", *solved, *phases), _stages(plan), title))
    return f'<div class="tl-run">{"".join(parts)}</div>'


def _stages(plan: Plan) -> Iterator[tuple[str, ...]]:
    for name in (*plan.stages, HEAD):
        speeds = [plan.speed(i, name) for i in range(len(plan.phases))]
        solved = ("solved" if name == HEAD else "as it was",) if plan.solve else ()
        yield name, *solved, *(f"{speed:.3g}" if speed else "frozen" for speed in speeds)


def _named(facts: Mapping[str, Any]) -> str:
    return str(facts["strategy"]["_target_"]).rpartition(".")[2]
