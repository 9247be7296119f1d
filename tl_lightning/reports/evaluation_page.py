"""What an evaluation has found, to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tl_lightning.evaluation.findings import Findings, Score
from tl_lightning.reports.markdown import markdown

_ROWS = 20  # of mistakes, and classes of a confusion matrix


def evaluation_page(
    title: str,
    scores: Sequence[Score],
    findings: Findings,
    mistakes: Sequence[Mapping[str, Any]],
    outputs: Sequence[str],
    obeys: bool = False,
) -> str:
    """Markdown: scores with intervals, tables, the confusion matrix of up to 20 classes, the worst mistakes.

    `obeys`: the table of the classes obeys thresholds.
    """
    parts = [f"# {title}", "", _scores(scores)]
    if obeys:
        parts += ["", "The table of the classes, `answered` and `accuracy_answered` obey the run's thresholds; other "
                  "scores and the confusion matrix are of the likeliest class."]  # fmt: skip
    for name, rows in findings.tables.items():
        parts += ["", f"## {name}", "", _table(rows)]
    if findings.confusion is not None and len(outputs) <= _ROWS:
        counts = [[name, *map(str, row)] for name, row in zip(outputs, findings.confusion, strict=True)]
        parts += ["", "## confusion (rows: true, columns: answered)", "", markdown(["", *outputs], counts)]
    if mistakes:
        parts += ["", f"## the worst of {len(findings.mistakes)}", "", _table(mistakes[:_ROWS])]
    return "\n".join(parts) + "\n"


def _scores(scores: Sequence[Score]) -> str:
    rows = [[s.name, f"{s.value:.4f}", s.interval] for s in scores]
    return markdown(["score", "value", "95 %"], rows)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return markdown(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows]) if rows else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
