"""The sweep that searches: every trial is a job, and what became of it tells where to look next."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from tl_lightning import checks
from tl_lightning.cli.grid import Launching
from tl_lightning.config.compose import composed
from tl_lightning.config.product import as_words
from tl_lightning.config.settings import settings_of
from tl_lightning.config.space import space
from tl_lightning.runs.folder import RunFolder
from tl_lightning.search import Dimension, Search


class Trials(Launching):
    """`trials` trials of the words that leave a choice, for the best `objectives` (null: the task's own score).

    `prune`: one that is behind the others after an epoch is stopped; only where there is one objective.
    """

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        trials: int = 20,
        objectives: Sequence[str] | None = None,
        prune: bool = True,
        seed: int = 0,
        price: bool = False,
    ) -> None:
        checks.whole("hydra.sweeper.trials", trials, 1)
        self.params, self.price, self.trials, self.seed = params, price, trials, seed
        self.objectives = list(objectives or ())
        self.prune = prune and len(self.objectives) < 2

    def sweep(self, arguments: list[str]) -> None:
        """Go on until so many trials have ended. Raises UserError before the first for words that make none."""
        fixed, dimensions = space([*as_words(self.params), *arguments])
        modes = self._modes(fixed, dimensions)
        search = Search(self.folder.journal, list(modes.values()), self.seed)
        for number in search.running():
            if RunFolder(self.folder.job(number)).metrics_file.is_file():
                self._tell(search, number, list(modes))
            else:
                search.try_again(number)
                self.folder.forget(number)
        self.begin([[*fixed, *as_words(_first(dimensions))]] * self.trials, self.trials, list(dimensions))
        while (left := self.trials - search.told()) > 0:
            asked = [search.ask(dimensions) for _ in range(min(left, self.processes))]
            jobs = [[*fixed, *as_words(values), *self._steering(number)] for number, values in asked]
            self.validate_batch_is_legal(jobs)
            numbers = [number for number, _ in asked]
            self.launch(jobs, numbers)
            for number in numbers:
                self._tell(search, number, list(modes))

    def _modes(self, fixed: Sequence[str], dimensions: Mapping[str, Dimension]) -> dict[str, str]:
        """The objectives, asked of a run whose choices are the first or the smallest there are."""
        from tl_lightning.jobs.objectives import modes

        with tempfile.TemporaryDirectory() as scratch:
            return modes(settings_of(composed([*fixed, *as_words(_first(dimensions))], scratch)), self.objectives)

    def _steering(self, number: int) -> list[str]:
        if not self.prune:
            return []
        target, file = "tl_lightning.callbacks.Pruning", self.folder.journal.absolute()
        return [f"+callbacks.pruning={{_target_:{target},file:'{file}',trial:{number}}}"]

    def _tell(self, search: Search, number: int, names: Sequence[str]) -> None:
        run = RunFolder(self.folder.job(number))
        metrics = run.metrics() if run.metrics_file.is_file() else {}
        values = [metrics[name] for name in names if metrics.get(name) is not None]
        pruned = str(metrics.get("ended", "")).startswith("pruning")
        search.tell(number, values if len(values) == len(names) else None, pruned)


def _first(dimensions: Mapping[str, Dimension]) -> dict[str, Any]:
    """A choice for every dimension: the first, or the smallest."""
    return {key: d.choices[0] if d.choices else d.low for key, d in dimensions.items()}
