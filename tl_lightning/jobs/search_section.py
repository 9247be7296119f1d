"""How a search went, for the page of its leaderboard."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tl_lightning.errors import UserError
from tl_lightning.jobs.leaderboard import Leaderboard
from tl_lightning.reports import charts, sweep_charts
from tl_lightning.reports.report_page import Section, picture
from tl_lightning.runs.sweep_folder import SweepFolder
from tl_lightning.search import Search


def search_sections(board: Leaderboard) -> Iterator[Section]:
    """Of every search among the places: its trials in order, and which words made the difference."""
    for place in board.searches:
        jobs = [job for row in board.rows for job in row.jobs if job.path.parent == place] + [
            job for job in board.failed if job.path.parent == place
        ]
        jobs = sorted((job for job in jobs if job.path.name.isdigit()), key=lambda job: int(job.path.name))
        scores = [job.metrics.get(board.monitor) for job in jobs]
        stopped = [job.stopped for job in jobs]
        drawn = sweep_charts.history_figure(scores, stopped, board.rises, board.monitor)
        yield Section("The search", picture(charts.svg(drawn, "the score of every trial")))
        try:
            shares = Search(SweepFolder(place).journal).importance()
        except UserError as error:
            yield Section("What made the difference", f"<p>{escape(str(error))}</p>")
            continue
        if shares:
            drawn = sweep_charts.importance_figure(shares)
            note = "<p>What tells the better trials from all (PED-ANOVA, arXiv:2304.10255). Few trials say little.</p>"
            yield Section("What made the difference", note + picture(charts.svg(drawn, "importance of every word")))
