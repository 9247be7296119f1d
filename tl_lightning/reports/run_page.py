"""A run as a notebook shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import torch

from tl_lightning import targets
from tl_lightning.reports import html
from tl_lightning.reports.figures import FIGURES
from tl_lightning.runs.folder import RunFolder
from tl_lightning.strategies.plan import HEAD, Plan
from tl_lightning.tasks.task import Task


def page(folder: RunFolder, allow: Sequence[str] = ()) -> str:
    """Scores, the task's picture, and what each stage learned. Raises UserError if the run was not finished."""
    facts, metrics = folder.facts(), folder.metrics()
    task: Task = targets.build(facts["task"], allow)
    parts = [f"<p><b>{escape(str(folder.path))}</b></p>"]
    rows = [
        (name, *(metrics.get(f"{split}/{key}", "") for split in ("val", "test"))) for key, name in task.shown.items()
    ]
    parts.append(html.table(("score", "validation", "test"), rows, "scores of the best weights"))
    for split, values in folder.overviews().items():
        figure = FIGURES[task.picture](torch.tensor(values), task.outputs)
        parts.append(html.picture(figure, f"{task.picture} of {split}"))
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


def _named(facts: dict[str, object]) -> str:
    strategy = facts["strategy"]
    assert isinstance(strategy, dict)
    return str(strategy["_target_"]).rpartition(".")[2]
