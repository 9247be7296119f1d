"""What metrics.json holds beside the scores of the best weights."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from tl_lightning import machine
from tl_lightning.build import Setup
from tl_lightning.callbacks.running_time import RunningTime
from tl_lightning.runs.folder import RunFolder


def last_epoch(folder: RunFolder) -> dict[str, float]:
    """Scores of the last epoch as they were written down, for a run that was killed after it."""
    rows = [row for row in folder.history() if row.get("val/loss")]
    return {k: float(v) for k, v in rows[-1].items() if k.startswith("val/") and v} if rows else {}


def memory(setup: Setup) -> dict[str, float]:
    """Bytes that this process held at most, and those of its GPU."""
    host, device = machine.peak_memory(), setup.trainer.strategy.root_device
    found = {} if host is None else {"memory/host": host}
    return found | ({"memory/gpu": float(torch.cuda.max_memory_allocated(device))} if device.type == "cuda" else {})


def seconds_before(trainer: L.Trainer) -> float:
    """What training took before this process resumed it."""
    found = [c.before for c in trainer.callbacks if isinstance(c, RunningTime)]  # type: ignore[attr-defined]  # not declared
    return found[0] if found else 0.0


def facts(setup: Setup) -> dict[str, Any]:
    """Sizes of the network and of the data, the score by which epochs were compared, and the outputs."""
    total, trainable = setup.module.members.sizes()
    return {
        "params/total": total,
        "params/trainable": trainable,
        "monitor": setup.module.task.monitor,
        "mode": setup.module.task.mode(setup.module.task.monitor),
        "classes": list(setup.module.task.outputs),
        "samples/train": setup.data.samples.size("train"),
        "skipped_files": len(setup.data.samples.skipped),
    }
