"""How far the one pass has come, and how fast it is."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} images/s" if task.speed else "")


def bar(show: bool, total: int) -> Progress:
    """A progress bar with its one task, to be entered; invisible unless `show`."""
    columns = Progress(
        TextColumn("features"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn(),
        transient=True, disable=not show,
    )  # fmt: skip
    columns.add_task("features", total=total)
    return columns
