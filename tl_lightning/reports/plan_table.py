"""What each stage learned, as a table."""

from __future__ import annotations

from tl_lightning.strategies.plan import HEAD, Plan


def plan_table(plan: Plan) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows: what share of the base rate each stage had in each phase."""
    solved = ("before training",) if plan.solve else ()
    phases = [f"from epoch {first}" for first, _ in zip(plan.starts, plan.phases, strict=False)]
    rows = []
    for name in (*plan.stages, HEAD):
        speeds = [plan.speed(i, name) for i in range(len(plan.phases))]
        before = ("solved" if name == HEAD else "as it was",) if plan.solve else ()
        rows.append((name, *before, *(f"{speed:.3g}" if speed else "frozen" for speed in speeds)))
    return ("stage", *solved, *phases), rows
