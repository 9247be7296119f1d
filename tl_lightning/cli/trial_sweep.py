"""The sweep that searches: every trial is a job, and what became of it tells where to look next."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from tl_lightning import checks
from tl_lightning.cli.grid import BaseSweeper
from tl_lightning.config.compose import composed, quoted
from tl_lightning.config.product import as_words
from tl_lightning.config.settings import settings_of
from tl_lightning.config.space import space
from tl_lightning.runs.folder import RunFolder
from tl_lightning.search import Dimension, Search


class OptunaSearch(BaseSweeper):
    """`trials` trials of the words that leave a choice, for the best `objectives` (null: the task's own score).

    `prune`: one that is behind the others after an epoch is stopped; only where the task's own score is the objective.
    `at_once`: how many are begun together (null: as many as joblib runs).
    """

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        trials: int = 20,
        objectives: Sequence[str] | None = None,
        prune: bool = True,
        at_once: int | None = None,
        seed: int = 0,
        price: bool = False,
    ) -> None:
        checks.whole("hydra.sweeper.trials", trials, 1)
        checks.whole("hydra.sweeper.at_once", at_once, 1, optional=True)
        self.params, self.price, self.trials, self.at_once, self.seed = params, price, trials, at_once, seed
        self.objectives = list(objectives or ())
        self.prune = prune

    def sweep(self, arguments: list[str]) -> None:
        """Go on until so many trials have ended. Raises UserError before the first for words that make none."""
        fixed, dimensions = space([*as_words(self.params), *arguments])
        modes, monitor = self._modes(fixed, dimensions)
        self.prune = self.prune and list(modes) == [monitor]  # the score that a trial reports after each epoch
        search = Search(self.folder.journal, list(modes.values()), self.seed)
        for number in search.running():
            if RunFolder(self.folder.job(number)).metrics_file.is_file():
                self._tell(search, number, list(modes))
            else:
                search.try_again(number)
                self.folder.forget(number)
        self.begin([[*fixed, *_drawn(_first(dimensions))]] * self.trials, self.trials, list(dimensions))
        while (left := self.trials - search.told()) > 0:
            asked = [search.ask(dimensions) for _ in range(min(left, self.at_once or self.processes))]
            jobs = [[*fixed, *_drawn(values), *self._steering(number)] for number, values in asked]
            self.validate_batch_is_legal(jobs)
            numbers = [number for number, _ in asked]
            self.launch(jobs, numbers)
            for number in numbers:
                self._tell(search, number, list(modes))

    def _modes(self, fixed: Sequence[str], dimensions: Mapping[str, Dimension]) -> tuple[dict[str, str], str]:
        """The objectives and the monitor, asked of a run whose choices are the first or the smallest there are."""
        from tl_lightning.jobs.objectives import modes

        with tempfile.TemporaryDirectory() as scratch:
            return modes(settings_of(composed([*fixed, *_drawn(_first(dimensions))], scratch)), self.objectives)

    def _steering(self, number: int) -> list[str]:
        if not self.prune:
            return []
        target, file = "tl_lightning.callbacks.Pruning", quoted(str(self.folder.journal.absolute()))
        return [f"+callbacks.pruning={{_target_:{target},file:{file},trial:{number}}}"]

    def _tell(self, search: Search, number: int, names: Sequence[str]) -> None:
        run = RunFolder(self.folder.job(number))
        metrics = run.metrics() if run.metrics_file.is_file() else {}
        values = [metrics[name] for name in names if metrics.get(name) is not None]
        search.tell(number, values if len(values) == len(names) else None, metrics.get("ended_by") == "pruning")


def _drawn(values: Mapping[str, Any]) -> list[str]:
    """A trial's values as words; of numbers four digits are enough."""
    return [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()]


def _first(dimensions: Mapping[str, Dimension]) -> dict[str, Any]:
    """A choice for every dimension: the first, or the smallest."""
    return {key: d.choices[0] if d.choices else d.low for key, d in dimensions.items()}
