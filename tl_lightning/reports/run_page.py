"""A run as a notebook shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import torch

from tl_lightning import targets
from tl_lightning.reports import html
from tl_lightning.reports.figures import FIGURES
from tl_lightning.reports.plan_table import plan_table
from tl_lightning.strategies.plan import Plan
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
    title = f"what learned: share of the base rate ({_named(facts)})"
    parts.append(html.table(*plan_table(plan), title))
    return f'<div class="tl-run">{"".join(parts)}</div>'


def _named(facts: Mapping[str, Any]) -> str:
    return str(facts["strategy"]["_target_"]).rpartition(".")[2]
