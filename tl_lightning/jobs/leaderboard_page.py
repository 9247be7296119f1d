"""A leaderboard for people: in the terminal, as CSV and Markdown, and as one page."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np
from rich.table import Table

from tl_lightning.jobs.leaderboard import Leaderboard, Row
from tl_lightning.jobs.search_section import search_sections
from tl_lightning.printable import guarded, printable
from tl_lightning.reports import charts, html, sweep_charts
from tl_lightning.reports.markdown import markdown
from tl_lightning.reports.report_page import Section, details, headline, picture, report_page, scrolled
from tl_lightning.runs.folder import RunFolder

_COST = "seconds/total"
_HEADS = {"seconds/total": "seconds", "memory/host": "MB", "params/trainable": "trainable",
          "images_per_second": "images/s"}  # fmt: skip
_MARKS = (
    "<p>as good: the seeds cannot tell it from the best; ?: too few to say; *: nothing is as good for less; stopped: "
    "by the sweep, before its last epoch</p>"
)
_FILLED = 0.5  # of a heat map, without which it shows nothing
_MOST = 2000  # rows of the page


def terminal(board: Leaderboard, most: int = 40) -> Table:
    """The first rows as rich prints them."""
    names = [n for n in (board.monitor, board.monitor.replace("val/", "test/"), _COST) if n in board.scores]
    table = Table("", *board.words, "n", *map(_head, names), *(["failed"] if board.failed else []))
    for column in table.columns:
        column.overflow = "fold"  # whole names
    for row in board.rows[:most]:
        words = [printable(row.words.get(word, "")) for word in board.words]
        failed = [_failed(board, row)] if board.failed else []
        cells = [_cell(row, name) for name in names]
        table.add_row(_mark(board, row), *words, str(len(row.jobs)), *cells, *failed)
    return table


def lines(board: Leaderboard) -> list[str]:
    """What the table says, in words."""
    best = board.best
    ties = [row for row in board.rows if row.tie and row is not best]
    said = [f"best: {_named(board, best)}: {board.monitor} {best.numbers[board.monitor]}"]
    if ties:
        said.append(f"the seeds do not tell it from {len(ties)} more: {'; '.join(_named(board, r) for r in ties[:5])}")
    if any(row.tie is None for row in board.rows):
        said.append("?: too few seeds, or seeds that change nothing, to say whether it is worse: repeat with "
                    "seed=0,1,2, or compare two runs on their samples by tl evaluate run=[A,B]")  # fmt: skip
    cheapest = next((row for row in sorted(ties, key=_seconds) if _seconds(row) < 0.8 * _seconds(best)), None)
    if cheapest:
        said.append(f"cheapest of these: {_named(board, cheapest)}, {_seconds(cheapest):.0f} s against "
                    f"{_seconds(best):.0f} s")  # fmt: skip
    if len(board.rows) > 2:
        said.append("*: nothing is as good in fewer seconds")
    said += [f"failed: {job.path}: {job.error}" for job in board.failed[:10]]
    return [*said, *board.remarks]


def write(board: Leaderboard, folder: Path) -> list[Path]:
    """leaderboard.csv, .md and .html in a folder."""
    made = {"leaderboard.csv": _csv(board), "leaderboard.md": _markdown(board), "leaderboard.html": page(board, folder)}
    for name, text in made.items():
        RunFolder(folder).write_text(folder / name, text)
    return [folder / name for name in made]


def page(board: Leaderboard, folder: Path) -> str:
    """The page, with links from a folder to runs and their reports."""
    best = board.best
    score = best.numbers[board.monitor]
    interval = "" if score.low is None or score.high is None else f"95 %: {score.low:.4f} to {score.high:.4f}"
    big = [(f"{score.mean:.4f}", f"{board.monitor}, {_named(board, best)}", interval)]
    said = "".join(f"<p>{escape(line)}</p>" for line in lines(board)[1:])
    sections = [Section("The best", headline(big) + said), Section("All", _table(board)), *_pictures(board),
                *search_sections(board)]  # fmt: skip
    sections.append(Section("Runs", _links(board, folder)))
    if board.failed:
        rows = [(str(job.path), job.error, job.command) for job in board.failed]
        sections.append(Section("Failed", scrolled(html.table(("run", "why", "again"), rows), "failed runs")))
    runs = sum(len(row.jobs) for row in board.rows)
    told = f"{len(board.rows)} configurations of {', '.join(board.words)}; {runs} runs, {len(board.failed)} failed"
    return report_page("Leaderboard", told, sections)


def _pictures(board: Leaderboard) -> Iterator[Section]:
    rows, name = [row for row in board.rows if _COST in row.numbers], board.monitor
    scores = [row.numbers[name].mean for row in rows]
    if len(rows) > 1:
        costs = [_seconds(row) for row in rows]
        names = [" ".join(row.words.get(word, "-") for word in board.words) for row in rows]
        spreads = [row.numbers[name].deviation or 0.0 for row in rows]
        leading = [row.leads for row in rows]
        drawn = sweep_charts.cost_figure(names, scores, costs, leading, ("seconds", name), spreads)
        note = "<p>Joined: nothing is as good at less cost. Bars: standard deviations over seeds.</p>"
        yield Section("Score against cost", note + picture(charts.svg(drawn, "score against seconds")))
    for first, second in _pairs(board):
        ups, overs = (sorted({row.words[word] for row in rows if word in row.words}) for word in (first, second))
        values = np.full((len(ups), len(overs)), np.nan)
        for row in rows:  # where several differ in other words, the best one
            if {first, second} <= row.words.keys():
                place = ups.index(row.words[first]), overs.index(row.words[second])
                better = max if board.rises else min
                values[place] = better(np.nan_to_num(values[place], nan=row.numbers[name].mean), row.numbers[name].mean)
        if np.isfinite(values).mean() < _FILLED:
            continue
        drawn = sweep_charts.grid_figure(ups, overs, values, f"{name}, the best of each", board.rises)
        yield Section(f"{first} and {second}", picture(charts.svg(drawn, f"{name} by {first} and {second}")))
    if len(rows) > 2 and len(board.words) > 1:
        choices = {word: [row.words.get(word, "-") for row in rows] for word in board.words}
        drawn = sweep_charts.parallel_figure(choices, scores, name, board.rises)
        yield Section("Every choice", picture(charts.svg(drawn, "a line for each configuration")))


def _pairs(board: Leaderboard) -> list[tuple[str, str]]:
    """Backbone and strategy, where both were swept; else the first two words."""
    words = board.words
    if {"backbone", "strategy"} <= set(words):
        return [("backbone", "strategy")]
    return [(words[0], words[1])] if len(words) > 1 else []


def _table(board: Leaderboard) -> str:
    names = _shown(board)
    rows = [(_mark(board, row), *(row.words.get(word, "") for word in board.words), len(row.jobs),
             *(_cell(row, name) for name in names)) for row in board.rows[:_MOST]]  # fmt: skip
    return scrolled(html.table(("mark", *board.words, "n", *map(_head, names)), rows), "configurations") + _MARKS


def _links(board: Leaderboard, folder: Path) -> str:
    parts = []
    for row in board.rows[:_MOST]:
        items = []
        for job in row.jobs:
            where, report = (os.path.relpath(p, folder) for p in (job.path, RunFolder(job.path).report))
            seen = f', <a href="{escape(report)}">report</a>' if RunFolder(job.path).report.is_file() else ""
            score = job.metrics.get(board.monitor)
            items.append(f'<li><a href="{escape(where)}/">{escape(job.seed or where)}</a>: {score:.4f}{seen}</li>')
        parts.append(details(_named(board, row), f"<ul>{''.join(items)}</ul>"))
    return "".join(parts)


def _csv(board: Leaderboard) -> str:
    """A line for every configuration, with mean, deviation and interval of every number."""
    names = sorted({name for row in board.rows for name in row.numbers})
    parts = [f"{name}{part}" for name in names for part in ("", "/sd", "/low", "/high")]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["tie", "leads", *board.words, "runs", *parts])
    for row in board.rows:
        cells = [cell for name in names for cell in _four(row, name)]
        tie = "" if row.tie is None else row.tie
        writer.writerow([tie, row.leads, *(guarded(row.words.get(w, "")) for w in board.words), len(row.jobs), *cells])
    return file.getvalue()


def _four(row: Row, name: str) -> list[object]:
    found = row.numbers.get(name)
    values = (None,) * 4 if found is None else (found.mean, found.deviation, found.low, found.high)
    return ["" if value is None else value for value in values]


def _markdown(board: Leaderboard) -> str:
    names = _shown(board)
    rows = [[_mark(board, row), *(row.words.get(w, "") for w in board.words), str(len(row.jobs)),
             *(_cell(row, n) for n in names)] for row in board.rows]  # fmt: skip
    return "\n".join([*lines(board), "", markdown(["", *board.words, "n", *map(_head, names)], rows), ""])


def _shown(board: Leaderboard) -> list[str]:
    """The monitor, up to three further scores, and costs."""
    costs = [name for name in board.scores if name in _HEADS]
    scores = [name for name in board.scores if name not in _HEADS and not name.endswith(("loss", "calibration_error"))]
    return [*scores[:4], *costs]


def _head(name: str) -> str:
    return _HEADS.get(name, name.removeprefix("val/"))


def _cell(row: Row, name: str) -> str:
    found = row.numbers.get(name)
    if found is None:
        return ""
    if name == "memory/host":
        return f"{found.mean / 1e6:,.0f}"
    return f"{found.mean:,.0f}" if name in _HEADS else str(found)


def _mark(board: Leaderboard, row: Row) -> str:
    tie = {True: "as good", False: "", None: "?"}[row.tie]
    place = "best" if row is board.best else tie
    stopped = any(job.stopped for job in row.jobs)
    return " ".join(mark for mark in (place, "*" if row.leads else "", "stopped" if stopped else "") if mark)


def _failed(board: Leaderboard, row: Row) -> str:
    """How many jobs of a configuration failed."""
    number = sum(row.words.items() <= dict(job.words).items() for job in board.failed)
    return str(number) if number else ""


def _named(board: Leaderboard, row: Row) -> str:
    return printable(" ".join(f"{word}={row.words[word]}" for word in board.words if word in row.words)) or "one"


def _seconds(row: Row) -> float:
    return row.numbers[_COST].mean if _COST in row.numbers else float("inf")
