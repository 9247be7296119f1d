"""How far a long pass has come, and how fast it is: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Self

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

log = logging.getLogger(__name__)

_FIRST, _APART = 5.0, 30.0  # seconds until the first line, and between lines


class _Speed(ProgressColumn):
    def __init__(self, noun: str) -> None:
        super().__init__()
        self.noun = noun

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} {self.noun}/s" if task.speed else "")


class Bar:
    """To be entered, and told of every step: `total` of `noun`, "images" or "texts"; `what` becomes of them.

    `show`: somebody sees a bar.
    """

    def __init__(self, total: int, noun: str, what: str, show: bool = False) -> None:
        self.total, self.noun, self.what, self.show, self.done = total, noun, what, show, 0
        self._began = time.monotonic()
        self._due = self._began + _FIRST
        self._columns = Progress(
            TextColumn(what), BarColumn(), MofNCompleteColumn(), _Speed(noun), TimeRemainingColumn(),
            transient=True, disable=not show,
        )  # fmt: skip
        self._columns.add_task(what, total=total)

    def advance(self, number: int) -> None:
        """So many more are done."""
        self.done += number
        self._columns.advance(self._columns.task_ids[0], number)
        now = time.monotonic()
        if not self.show and now >= self._due and self.done < self.total:
            self._due = now + _APART
            pace = self.done / (now - self._began)
            left = (self.total - self.done) / pace
            log.info(f"{self.what:9} {self.done} of {self.total} {self.noun}, {pace:.0f} a second, {left:.0f} s left")

    def __enter__(self) -> Self:
        self._columns.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._columns.stop()
