"""Pictures of a run for its report, as SVG that follows the page's colours."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_LOOK = {"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def svg(figure: Figure, what: str) -> str:
    """A figure inside of a page; `what` it shows, for those who do not see it. Names in it are escaped."""
    file = io.StringIO()
    with mpl.rc_context(_LOOK):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Title": what})
    text = file.getvalue()
    return text[text.index("<svg") :]


def curves(history: Sequence[Mapping[str, str]], starts: Sequence[int], shown: Mapping[str, str]) -> Figure | None:
    """Losses and scores by epoch, a line where each phase but the first begins; None for a run without epochs."""
    losses = {"train": _column(history, "train/loss_epoch"), "validation": _column(history, "val/loss")}
    scores = {name: _column(history, f"val/{key}") for key, name in shown.items()}
    if len(losses["validation"]) < 2:
        return None
    with mpl.rc_context(_LOOK):
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        for place, (title, lines) in enumerate((("loss", losses), ("validation scores", scores)), 1):
            axes = figure.add_subplot(1, 2, place)
            axes.set_title(title, loc="left", fontsize=9)
            for name, points in lines.items():
                axes.plot(list(points), list(points.values()), marker=".", markersize=4, label=name)
            for start in starts[1:]:
                axes.axvline(start - 0.5, color="grey", linewidth=0.8, linestyle=":")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(frameon=False, fontsize=8)
    return figure


def rates(history: Sequence[Mapping[str, str]]) -> Figure | None:
    """The rate of every stage by step; None where nothing has learned."""
    names = [name for name in history[0] if name.startswith("rate/")] if history else []
    lines = {name.partition("/")[2]: _column(history, name, by="step") for name in names}
    if not any(max(points.values(), default=0) > 0 for points in lines.values()):
        return None
    with mpl.rc_context(_LOOK):
        figure = Figure(figsize=(7.2, 2.4), layout="constrained")
        axes = figure.add_subplot()
        for name, points in lines.items():
            axes.plot(list(points), list(points.values()), label=name, linewidth=1.2)
        axes.set_xlabel("step")
        axes.set_title("rate of each stage", loc="left", fontsize=9)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        axes.legend(frameon=False, fontsize=8, ncols=2)
    return figure


def bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Precision and recall of each class, the worst first; of more than 30 classes the 30 worst."""
    worst = sorted(rows, key=lambda row: row["f1"] or 0.0)[:30]
    with mpl.rc_context(_LOOK):
        figure = Figure(figsize=(7.2, 0.9 + 0.34 * len(worst)), layout="constrained")
        axes = figure.add_subplot()
        for shift, key in ((-0.18, "precision"), (0.18, "recall")):
            axes.barh([i + shift for i in range(len(worst))], [row[key] or 0.0 for row in worst], 0.34, label=key)
        names = [f"{row['class']} ({row['support']})" for row in worst]
        axes.set_yticks(range(len(worst)), labels=names, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def reliability(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """How often answers of each sureness are right: on the line they mean what they say."""
    with mpl.rc_context(_LOOK):
        figure = Figure(figsize=(3.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        total = sum(row["samples"] for row in rows)
        sizes = [20 + 400 * row["samples"] / total for row in rows]
        axes.scatter([r["confidence"] for r in rows], [r["right"] for r in rows], s=sizes, alpha=0.6)
        axes.plot([r["confidence"] for r in rows], [r["right"] for r in rows], linewidth=1)
        axes.set_xlabel("how sure")
        axes.set_ylabel("how often right")
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.03)
    return figure


def _column(history: Sequence[Mapping[str, str]], name: str, by: str = "epoch") -> dict[int, float]:
    """The values of a column of metrics.csv, by epoch or step."""
    return {int(row[by]): float(row[name]) for row in history if row.get(name) and row.get(by)}
