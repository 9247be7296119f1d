"""Successive halving: many configurations for few epochs, the better ones for longer, from their checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tl_lightning import checks
from tl_lightning.cli.grid import BaseSweeper
from tl_lightning.config.compose import composed
from tl_lightning.config.product import as_words, combinations, differing
from tl_lightning.errors import UserError


class Halving(BaseSweeper):
    """Every combination of the words for a few epochs; one in `factor`, the best, goes on `factor` times as long.

    (Jamieson and Talwalkar, arXiv:1502.07943.) The schedule is that of all epochs from the beginning, so that the
    winner is what it would have been alone.
    """

    def __init__(self, params: Mapping[str, Any] | None = None, factor: int = 2, first: int | None = None,
                 price: bool = False) -> None:  # fmt: skip
        checks.whole("hydra.sweeper.factor", factor, 2)
        checks.whole("hydra.sweeper.first", first, 1, optional=True)
        self.params, self.price, self.factor, self.first = params, price, factor, first

    def sweep(self, arguments: list[str]) -> None:
        """Run the rungs one after the other. Raises UserError for words that make no job, or that sweep over epochs."""
        jobs = combinations([*as_words(self.params), *arguments])
        epochs = {composed(job)["trainer"]["max_epochs"] for job in jobs}
        if len(epochs) > 1:
            raise UserError("halving compares runs after equal epochs: trainer.max_epochs must be one number")
        rungs = list(_rungs(len(jobs), self.factor, epochs.pop(), self.first))
        self.begin(jobs, len(jobs), differing(jobs))
        left = list(range(len(jobs)))
        for place, until in enumerate(rungs):
            stop = f"+callbacks.until={{_target_:tl_lightning.callbacks.StopAfter,epochs:{until}}}"
            self.launch([[*jobs[number], stop] for number in left], left)
            left = self._best(left, -(-len(left) // self.factor))
            if not left:  # all have failed
                break
            if place + 1 < len(rungs):
                print(f"halving   after {until} epochs {len(left)} go on to {rungs[place + 1]}: jobs "
                      f"{', '.join(map(str, left))}")  # fmt: skip

    def _best(self, numbers: Sequence[int], keep: int) -> list[int]:
        """The best of some jobs by the score that each is monitored by; those that failed are none of them."""
        scores = {number: score for number in numbers if (score := self.folder.score(number)) is not None}
        return sorted(sorted(scores, key=lambda number: -scores[number])[:keep])


def _rungs(jobs: int, factor: int, epochs: int, first: int | None) -> Iterator[int]:
    """After how many epochs the jobs are compared, the last time after all of them."""
    reached: list[int] = []
    while jobs > 1 and epochs > (first or 0):
        reached.append(epochs)
        jobs, epochs = -(-jobs // factor), epochs // factor
    yield from sorted({max(first or 1, r) for r in (*reached, epochs)})
