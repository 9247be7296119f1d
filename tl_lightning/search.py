"""A search by Optuna (arXiv:1907.10902) whose trials lie in a journal, which several processes may write."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_lightning.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_NAME = "sweep"  # of the study in the journal
_STARTUP, _WARMUP = 4, 1  # trials before any is pruned, and epochs of a trial before it is
_AGAIN = "repeated"  # of a trial that was killed: its values were tried again in another one


@dataclass(frozen=True)
class Dimension:
    """What a word may be: one of `choices`, or a number between `low` and `high`, in steps or by its logarithm."""

    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    whole: bool = False
    log: bool = False
    step: float | None = None

    def distribution(self) -> BaseDistribution:
        """As Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))
        return FloatDistribution(self.low, self.high, self.log, self.step)


class Search:
    """The trials in a journal; begun if there are none and `modes` ("min" or "max" of every objective) are given.

    Values are drawn by tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011). Raises UserError where the
    journal is damaged, is one of other objectives, or Optuna is missing.
    """

    def __init__(self, file: Path, modes: Sequence[str] = (), seed: int = 0) -> None:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
            from optuna.study import StudyDirection
        except ImportError as error:
            raise UserError("a search needs Optuna: pip install 'tl-lightning[sweep]'") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        named = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
        directions = [named[mode] for mode in modes]
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=_WARMUP)
        self.file = file
        with self._readable():
            self._storage = JournalStorage(JournalFileBackend(str(file), JournalFileOpenLock(str(file))))
            begun = _NAME in [study.study_name for study in self._storage.get_all_studies()]
            if not begun:
                optuna.create_study(storage=self._storage, study_name=_NAME, directions=directions)
            self._id = self._storage.get_study_id_from_name(_NAME)
            drawn = self._storage.get_n_trials(self._id)
            sampler = optuna.samplers.TPESampler(seed=seed + drawn)  # else one that goes on would draw the same again
            self._study = optuna.load_study(study_name=_NAME, storage=self._storage, sampler=sampler, pruner=pruner)
        if directions and self._study.directions != directions:
            raise UserError(f"{file} holds a search for other objectives: name another hydra.sweep.dir")

    def ask(self, dimensions: Mapping[str, Dimension]) -> tuple[int, dict[str, Any]]:
        """A new trial's number and values."""
        trial = self._study.ask({name: dimension.distribution() for name, dimension in dimensions.items()})
        return trial.number, trial.params

    def tell(self, number: int, values: Sequence[float] | None, pruned: bool = False) -> None:
        """What has become of a trial; no values: it has failed."""
        from optuna.trial import TrialState

        if pruned or values is None:
            self._study.tell(number, state=TrialState.PRUNED if pruned else TrialState.FAIL)
        else:
            self._study.tell(number, list(values))

    def running(self) -> list[int]:
        """Numbers of the trials of which nobody has told the end: at the start of a sweep those of a killed one."""
        from optuna.trial import TrialState

        return [trial.number for trial in self._study.get_trials(states=(TrialState.RUNNING,))]

    def try_again(self, number: int) -> None:
        """Give a trial up; another one will have its values."""
        self._storage.set_trial_user_attr(self._identity(number), _AGAIN, True)
        self.tell(number, None)
        self._study.enqueue_trial(self._study.trials[number].params)

    def told(self) -> int:
        """How many trials have ended; one whose values are tried again is not counted."""
        return sum(t.state.is_finished() and not t.user_attrs.get(_AGAIN) for t in self._study.trials)

    def report(self, number: int, epoch: int, score: float) -> bool:
        """Note a trial's score after an epoch; whether it is worse than the median of the others there."""
        from optuna.trial import Trial

        trial = Trial(self._study, self._identity(number))
        trial.report(score, epoch)
        return bool(trial.should_prune())

    def importance(self) -> Mapping[str, float]:
        """How much each word tells the better trials from all, 1 in all; {} of too few (arXiv:2304.10255)."""
        from optuna.importance import get_param_importances

        first = (lambda trial: trial.values[0]) if len(self._study.directions) > 1 else None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # of too few trials, which would all weigh the same
                return get_param_importances(self._study, target=first)
        except (ValueError, RuntimeError, UserWarning):
            return {}

    def _identity(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """What Optuna says of a journal that it cannot read, as a UserError."""
        try:
            yield
        except (KeyError, ValueError, TypeError, AssertionError) as error:  # no JSON, or that of something else
            why = f"{type(error).__name__}: {error}"
            raise UserError(f"{self.file} is damaged ({why}): begin the search anew in another folder") from error
