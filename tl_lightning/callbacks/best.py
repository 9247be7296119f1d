"""Which epoch is the best."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best epoch, of several equal ones the latest.

    On small validation sets ties are the rule, and the first epoch of a tie has learned the least.
    """

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Whether the monitored value is as good as the best so far."""
        if current is not None and self.best_model_score is not None and current == self.best_model_score:
            return True
        return bool(super().check_monitor_top_k(trainer, current))
