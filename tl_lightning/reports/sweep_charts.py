"""Pictures of many configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tl_lightning.reports.charts import LOOK

_NAMED = 30  # points with a name
_LEVELS = 8  # values of a word that are all named


def cost_figure(
    names: Sequence[str],
    scores: Sequence[float],
    costs: Sequence[float],
    leading: Sequence[bool],
    labels: tuple[str, str],
    spreads: Sequence[float] | None = None,
) -> Figure:
    """A point for each configuration by cost and score; those that nothing beats for less are joined and named.

    `spreads`: standard deviations of the scores.
    """
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(7.6, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.errorbar(costs, scores, spreads, fmt="o", markersize=4, color="tab:grey", alpha=0.6, capsize=2)
        places = sorted((i for i, leads in enumerate(leading) if leads), key=lambda i: costs[i])
        axes.plot([costs[i] for i in places], [scores[i] for i in places], "o-", color="tab:blue", markersize=5)
        for i in places[:_NAMED]:
            axes.annotate(names[i], (costs[i], scores[i]), (4, -9), textcoords="offset points", fontsize=7,
                          parse_math=False)  # fmt: skip
        if min(costs) > 0 and max(costs) > 20 * min(costs):
            axes.set_xscale("log")
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
    return figure


def grid_figure(rows: Sequence[str], columns: Sequence[str], values: np.ndarray, label: str, rises: bool) -> Figure:
    """Values (R, C) of two words against each other, NaN where there is none; the better the darker."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(2 + 0.95 * len(columns), 1 + 0.36 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        shown = np.where(np.isfinite(values), values if rises else -values, np.nan)
        axes.imshow(shown, cmap="Blues", aspect="auto")
        axes.set_xticks(range(len(columns)), labels=list(columns), rotation=30, ha="right", parse_math=False)
        axes.set_yticks(range(len(rows)), labels=list(rows), parse_math=False)
        middle = np.nanmean([np.nanmin(shown), np.nanmax(shown)])
        for (row, column), value in np.ndenumerate(values):
            if math.isfinite(value):
                colour = "white" if shown[row, column] > middle else "black"
                axes.text(column, row, f"{value:.4f}", ha="center", va="center", fontsize=8, color=colour)
        axes.set_title(label, loc="left", fontsize=9)
    return figure


def parallel_figure(choices: Mapping[str, Sequence[str]], scores: Sequence[float], label: str, rises: bool) -> Figure:
    """A line for each configuration through its choices to its score, the best ones dark."""
    names = [*choices, label]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(1.9 * len(names), 3.6), layout="constrained")
        axes = figure.add_subplot()
        heights = []
        for place, (name, values) in enumerate(choices.items()):
            at = _heights(values)
            heights.append([at[value] for value in values])
            named = at if len(at) <= _LEVELS else [min(at, key=lambda v: at[v]), max(at, key=lambda v: at[v])]
            for value in named:
                axes.text(place, at[value], f" {value}", fontsize=7, va="center", parse_math=False)
            axes.text(place, 1.08, name, fontsize=8, ha="center", parse_math=False)
        low, high = min(scores), max(scores)
        scaled = [(score - low) / ((high - low) or 1.0) for score in scores]
        heights.append(scaled)
        for score, height in ((low, 0.0), (high, 1.0)):
            axes.text(len(choices), height, f" {score:.4f}", fontsize=7, va="center")
        axes.text(len(choices), 1.08, label, fontsize=8, ha="center", parse_math=False)
        for i in sorted(range(len(scores)), key=lambda i: scaled[i] if rises else -scaled[i]):
            good = scaled[i] if rises else 1 - scaled[i]
            axes.plot(range(len(names)), [h[i] for h in heights], color="tab:blue", alpha=0.08 + 0.9 * good**3)
        for place in range(len(names)):
            axes.axvline(place, color="grey", linewidth=0.6)
        axes.set_ylim(-0.06, 1.16)
        axes.set_axis_off()
    return figure


def history_figure(scores: Sequence[float | None], stopped: Sequence[bool], rises: bool, label: str) -> Figure:
    """A point for each trial in order, empty where it was stopped, and the best so far; None: it has failed."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(7.6, 3.2), layout="constrained")
        axes = figure.add_subplot()
        told = [(i, score) for i, score in enumerate(scores) if score is not None]
        ended = [(i, score) for i, score in told if not stopped[i]]
        short = [(i, score) for i, score in told if stopped[i]]
        for points, filled, name in ((ended, "tab:blue", "trial"), (short, "none", "stopped")):
            places, values = [i for i, _ in points], [score for _, score in points]
            axes.scatter(places, values, s=22, facecolors=filled, edgecolors="tab:blue", label=name)
        if ended:
            best = (np.maximum if rises else np.minimum).accumulate([score for _, score in ended])
            axes.step([i for i, _ in ended], best, where="post", color="tab:orange", label="best so far")
        axes.set_xlabel("trial")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=8)
    return figure


def importance_figure(shares: Mapping[str, float]) -> Figure:
    """A bar for each word by its importance, 0 to 1, the most important one on top."""
    ordered = sorted(shares, key=lambda name: shares[name])
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(7.6, 0.7 + 0.32 * len(ordered)), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(ordered, [shares[name] for name in ordered], color="tab:blue")
        axes.set_xlabel("importance")
        axes.set_xlim(0, 1)
    return figure


def _heights(values: Sequence[str]) -> dict[str, float]:
    """Where on an axis from 0 to 1 each value stands: many numbers by their size, a few values evenly."""
    levels = sorted(set(values), key=_number)
    sizes = np.array([_number(value)[0] for value in levels])
    if len(levels) <= _LEVELS or not np.isfinite(sizes).all():
        return {value: i / max(len(levels) - 1, 1) for i, value in enumerate(levels)}
    if sizes[0] > 0 and sizes[-1] > 20 * sizes[0]:
        sizes = np.log(sizes)
    return dict(zip(levels, ((sizes - sizes[0]) / (sizes[-1] - sizes[0])).tolist(), strict=True))


def _number(value: str) -> tuple[float, str]:
    """Numbers by their size, words by their letters after them."""
    try:
        return float(value), value
    except ValueError:
        return math.inf, value
