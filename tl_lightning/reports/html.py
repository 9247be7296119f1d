"""Runs and predictions as a notebook shows them: self-contained HTML, every name in it escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure

_MOST_ROWS = 20
_RIGHT = 'style="text-align:right"'


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> str:
    """A table with its title; numbers are aligned to the right."""
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    caption = f'<caption style="text-align:left;font-weight:bold">{escape(title)}</caption>' if title else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(figure: Figure, what: str) -> str:
    """A figure as an image inside of the page; `what` it shows, for those who do not see it."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    image = f'<img alt="{escape(what)}" style="max-width:420px" src="data:image/png;base64,{data}">'
    return f"<figure><figcaption><b>{escape(what)}</b></figcaption>{image}</figure>"


def predictions_table(sources: Sequence[str], answers: Sequence[Any], numbers: Sequence[float]) -> str:
    """What a model said of the first sources, and the number behind each answer."""
    rows = [(s, said(a), n) for s, a, n in list(zip(sources, answers, numbers, strict=True))[:_MOST_ROWS]]
    more = f"<p>... and {len(sources) - _MOST_ROWS} more</p>" if len(sources) > _MOST_ROWS else ""
    return table(("source", "answer", "number"), rows) + more


def said(answer: Any) -> str:
    """An answer for people: a class, several, or a value."""
    if isinstance(answer, (list, tuple)):
        return ", ".join(map(str, answer)) or "none"
    return f"{answer:.4g}" if isinstance(answer, float) else str(answer)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"<td {_RIGHT}>{value:.4f}</td>"
    return f"<td {_RIGHT}>{value:,}</td>" if isinstance(value, int) else f"<td>{escape(str(value))}</td>"
