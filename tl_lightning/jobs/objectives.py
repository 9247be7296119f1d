"""What a search may be told to optimise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tl_lightning.build import gather
from tl_lightning.config.settings import Settings
from tl_lightning.errors import UserError, nearest
from tl_lightning.jobs.fit import quiet

_COSTS = ("seconds/fit", "seconds/total", "memory/host", "params/trainable")


def modes(settings: Settings, names: Sequence[str]) -> tuple[dict[str, str], str]:
    """By objective whether it is to be small ("min") or large ("max"), and the score that epochs are compared by.

    No names mean that score. The data are looked at on the CPU, wherever the runs will be.

    Raises UserError for what the task does not have, as for whatever keeps a run from being built.
    """
    quiet()
    data = gather(replace(settings, trainer={**settings.trainer, "accelerator": "cpu"}))[1]
    task, splits = data.task, ("val", "test") if data.has_test else ("val",)
    scores = [f"{split}/{name}" for split in splits for name in (*task.scores(), "loss")]
    found = {}
    for name in names or [task.monitor]:
        if name not in scores and name not in _COSTS:
            raise UserError(f"hydra.sweeper.objectives: there is no {name} here: {nearest(name, [*scores, *_COSTS])}")
        found[name] = task.mode(name) if name in scores else "min"
    return found, task.monitor
