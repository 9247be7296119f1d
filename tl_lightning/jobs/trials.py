"""Short trials of candidate strategies, on the training samples alone."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tl_lightning.config.settings import Settings
from tl_lightning.data import splits
from tl_lightning.data.datamodule import LabelledData
from tl_lightning.errors import UserError
from tl_lightning.jobs import outside_ranks
from tl_lightning.runs.model import described
from tl_lightning.strategies.plan import Strategy

log = logging.getLogger(__name__)

_HELD_OUT = 0.25  # of the training samples of each class


def attempt(
    train: Callable[[Settings], dict[str, Any]],
    settings: Settings,
    data: LabelledData,
    strategy: Strategy,
    seconds: float,
) -> float:
    """Accuracy on held-out training samples after so many seconds of training at most, by one strategy.

    The samples that are held out are the same for every strategy; those for validation and test are not looked at.
    Raises UserError where the data come from Python, and can be divided there alone, and under torchrun or srun.
    """
    if outside_ranks.rank() is not None:
        raise UserError("strategy.trial_seconds: trials need ranks of their own, which torchrun and srun do not start")
    if not isinstance(settings.data, dict):
        raise UserError("strategy.trial_seconds: data given from Python cannot be divided for trials; leave it out")
    known, group = data.samples.used("train"), data.samples.grouped_by
    units = dict(zip([i.path for i in known], data.samples.groups("train", group), strict=True)) if group else None
    division = splits.SplitOptions(_HELD_OUT, split_seed=settings.seed)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "splits.csv")
        splits.write(division.drawn(known, data.task, units=units), file)
        size = min(data.batch_size, max(1, len(known) // 2))
        trial = replace(
            settings,
            strategy=described(strategy),
            callbacks={},
            logger={},
            report=False,
            run_dir=Path(scratch),
            data={**splits.repeating(settings.data, file), "batch_size": size},
            trainer={**settings.trainer, "max_time": {"seconds": seconds}},
        )
        with silence():
            accuracy = float(train(trial)[data.task.monitor])
    log.info(f"trial     {accuracy:.4f} after at most {seconds:g} s: {strategy}")
    return accuracy


@contextmanager
def silence() -> Iterator[None]:
    """While inside, this package says nothing below a warning: what goes on is no run of its own."""
    logger = logging.getLogger("tl_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
