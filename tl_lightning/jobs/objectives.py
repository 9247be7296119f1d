"""What a search may be told to optimise."""

from __future__ import annotations

from collections.abc import Sequence

from tl_lightning.build import gather
from tl_lightning.config.settings import Settings
from tl_lightning.errors import UserError, nearest
from tl_lightning.jobs.fit import quiet

_COSTS = ("seconds/fit", "seconds/total", "memory/host", "memory/gpu", "params/trainable")


def modes(settings: Settings, names: Sequence[str]) -> dict[str, str]:
    """By objective whether it is to be small ("min") or large ("max"); no names mean the task's own score.

    Raises UserError for what the task does not have, as for whatever keeps a run from being built.
    """
    quiet()
    task = gather(settings)[1].task
    scores = [f"{split}/{name}" for split in ("val", "test") for name in (*task.scores(), "loss")]
    found = {}
    for name in names or [task.monitor]:
        if name not in scores and name not in _COSTS:
            raise UserError(f"hydra.sweeper.objectives: there is no {name} here: {nearest(name, [*scores, *_COSTS])}")
        found[name] = task.mode(name) if name in scores else "min"
    return found
