"""How long a run has trained, in all its parts."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class RunningTime(Callback):
    """Seconds of training, kept in checkpoints: `before` counts those before this process resumed the run."""

    def __init__(self) -> None:
        self.before = 0.0
        self._began: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin."""
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Seconds up to now."""
        return {"seconds": self.before + (time.monotonic() - self._began if self._began is not None else 0.0)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Those of the parts before."""
        self.before = float(state_dict["seconds"])
