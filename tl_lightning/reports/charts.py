"""Pictures of a run for its report, as SVG that follows the page's colours."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tl_lightning.strategies.plan import HEAD, Plan

LOOK = {"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def svg(figure: Figure, what: str) -> str:
    """A figure inside of a page; `what` it shows, for those who do not see it. Names in it are escaped."""
    file = io.StringIO()
    with mpl.rc_context(LOOK):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Title": what})
    text = file.getvalue()
    return text[text.index("<svg") :]


def curves(lines: Mapping[str, Mapping[int, float]], title: str, starts: Sequence[int] = ()) -> Figure:
    """Lines by epoch, each a name and its points; dotted where each phase but the first begins."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(3.9, 2.7), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontsize=9)
        for name, points in lines.items():
            axes.plot(list(points), list(points.values()), marker=".", markersize=4, label=name)
        for start in starts[1:]:
            axes.axvline(start - 0.5, color="grey", linewidth=0.8, linestyle=":")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=8)
    return figure


def rates(lines: Mapping[str, Mapping[int, float]]) -> Figure:
    """The rate of every stage by step; none where it is frozen."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(3.9, 3.1), layout="constrained")
        axes = figure.add_subplot()
        for name, points in lines.items():
            axes.plot(list(points), [rate or float("nan") for rate in points.values()], label=name, linewidth=1.2)
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_title("rate of each stage", loc="left", fontsize=9)
        figure.legend(frameon=False, fontsize=8, ncols=3, loc="outside lower center")
    return figure


def timeline(plan: Plan, epochs: int) -> Figure:
    """Which stage learns in which epochs, the darker the faster; the share of the base rate is written in it."""
    names = [*plan.stages, HEAD]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(7.8, 0.8 + 0.24 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        for i in range(len(plan.phases)):
            first, after = plan.span(i, epochs)
            for row, name in enumerate(names):
                if speed := plan.speed(i, name):
                    shade = 0.25 + 0.75 * max(0.0, 1 + math.log10(min(speed, 1)) / 3)
                    axes.barh(row, after - first, 0.8, first, color="tab:blue", alpha=shade, linewidth=0)
                    axes.text((first + after) / 2, row, f"{speed:.2g}", ha="center", va="center", fontsize=7)
        axes.set_title("what learns when: shares of the base rate", loc="left", fontsize=9)
        axes.set_yticks(range(len(names)), labels=names, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlim(0, epochs)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
    return figure


def column(history: Sequence[Mapping[str, str]], name: str, by: str = "epoch") -> dict[int, float]:
    """The values of a column of metrics.csv, by epoch or step."""
    return {int(row[by]): float(row[name]) for row in history if row.get(name) and row.get(by)}


def bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Precision and recall of each class, the worst first; of more than 30 classes the 30 worst."""
    worst = sorted(rows, key=lambda row: row["f1"] or 0.0)[:30]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(4.6, 0.9 + 0.34 * len(worst)), layout="constrained")
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
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(3.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        total = sum(row["samples"] for row in rows)
        sizes = [16 + 160 * row["samples"] / total for row in rows]
        axes.scatter([r["confidence"] for r in rows], [r["right"] for r in rows], s=sizes, alpha=0.6, clip_on=False)
        axes.plot([r["confidence"] for r in rows], [r["right"] for r in rows], linewidth=1)
        axes.set_xlabel("how sure")
        axes.set_ylabel("how often right")
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.03)
    return figure
