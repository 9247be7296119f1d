"""What advice rests on, as pictures."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from tl_lightning.transferability.evidence import Evidence


def taps_figure(evidence: Evidence) -> Figure:
    """How well the pooled output of each stage tells the classes, and how far BatchNorm's statistics are off."""
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    names = [tap.name for tap in evidence.taps]
    places = range(len(names))
    axes.bar([p - 0.2 for p in places], [t.accuracy for t in evidence.taps], 0.4, label="ridge regression")
    axes.bar([p + 0.2 for p in places], [t.nearest for t in evidence.taps], 0.4, label="nearest neighbour")
    axes.axhline(1 / evidence.classes, color="grey", linestyle=":", label="chance")
    axes.set_xticks(places, labels=names)
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy, images left out in turn")
    if evidence.drift:
        other = axes.twinx()
        there = [p for p in places if names[p] in evidence.drift]
        other.plot(there, [evidence.drift[names[p]] for p in there], "k.-", label="BatchNorm drift (right)")
        other.set_ylabel("symmetric KL, nats")
        other.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    axes.set_title(f"{evidence.images} images of {evidence.classes} classes, by stage")
    return figure


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (speed, accuracy) whether no other point is as good in both and better in one."""
    return [
        not any(s >= speed and a >= accuracy and (s, a) != (speed, accuracy) for s, a in points)
        for speed, accuracy in points
    ]


def pareto_figure(ranks: Sequence[tuple[str, float, float, tuple[float, float]]]) -> Figure:
    """(name, images a second, accuracy, interval) as points, the front as a line."""
    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    best = pareto([(speed, accuracy) for _, speed, accuracy, _ in ranks])
    for (name, speed, accuracy, (low, high)), on_front in zip(ranks, best, strict=True):
        error = [[accuracy - low], [high - accuracy]]
        axes.errorbar(speed, accuracy, error, fmt="o", color="tab:blue" if on_front else "tab:grey", capsize=3)
        axes.annotate(name, (speed, accuracy), textcoords="offset points", xytext=(6, 4), fontsize=8)
    front = sorted((speed, accuracy) for (_, speed, accuracy, _), b in zip(ranks, best, strict=True) if b)
    axes.plot(*zip(*front, strict=True), "--", color="tab:blue", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("images a second, one forward pass")
    axes.set_ylabel("accuracy, images left out in turn")
    axes.margins(0.25)
    return figure
