"""The sections of a report of two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from tl_lightning.evaluation.findings import Score
from tl_lightning.reports import charts, html
from tl_lightning.reports.report_page import Section, details, pictures, rows_table, scrolled

_SIDES = ("A", "B")
_LISTED = 100  # samples
Rows = Sequence[Mapping[str, Any]]


def scores(verdict: str, of_both: Sequence[Sequence[Score]]) -> str:
    """Which is better, in words, and every score of both."""
    first, second = ({score.name: score for score in found} for found in of_both)
    rows = [(name, a.value, second[name].value, second[name].value - a.value, a.interval, second[name].interval)
            for name, a in first.items() if name in second]  # fmt: skip
    table = html.table(("score", "A", "B", "B - A", "A, 95 %", "B, 95 %"), rows)
    return f"<p><b>{escape(verdict)}</b></p>{scrolled(table, 'scores of both')}"


def curves(histories: Sequence[Rows], shown: Mapping[str, str]) -> str:
    """Losses and scores of both by epoch."""
    drawn = []
    for key, title in {"loss": "validation loss", **shown}.items():
        lines = {side: charts.column(rows, f"val/{key}") for side, rows in zip(_SIDES, histories, strict=True)}
        if all(lines.values()):
            drawn.append(charts.svg(charts.curves(lines, title), f"{title} of both by epoch"))
    return pictures(drawn)


def classes(tables: Sequence[Rows]) -> Iterator[Section]:
    """F1 of each class, the largest difference first."""
    first, second = ({str(row["class"]): row["f1"] or 0.0 for row in rows} for rows in tables)
    rows = [(name, a, second[name], second[name] - a) for name, a in first.items()]
    if rows:
        ordered = sorted(rows, key=lambda row: -abs(row[3]))
        yield Section("F1 of each class", scrolled(html.table(("class", "A", "B", "B - A"), ordered), "F1"))


def answers(rows: Rows, wrong: Sequence[set[int]]) -> Iterator[Section]:
    """The samples that one of them answers wrongly, and those that both do; `wrong`: their places in `rows`."""
    first, second = wrong
    if not rows or not first | second:
        return
    parts = []
    for what, places in {"in A alone": first - second, "in B alone": second - first, "in both": first & second}.items():
        shown = [rows[place] for place in sorted(places)[:_LISTED]]
        title = f"{len(places)} wrong {what}"
        parts.append(details(title, rows_table(title, shown)) if shown else f"<p>{title}</p>")
    yield Section("Different answers", "".join(parts))


def words(configs: Sequence[Mapping[str, Any]]) -> str:
    """The values of the configuration that differ."""
    first, second = (dict(_flat(config)) for config in configs)
    rows = [(key, str(first.get(key, "-")), str(second.get(key, "-"))) for key in sorted(first.keys() | second.keys())
            if first.get(key, "-") != second.get(key, "-") and key != "run_dir"]  # fmt: skip
    return scrolled(html.table(("value", "A", "B"), rows), "values that differ") if rows else "<p>None differs.</p>"


def _flat(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, node
