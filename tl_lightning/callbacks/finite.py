"""Numbers that are no longer finite: the step is not taken, and a run that cannot be saved ends."""

from __future__ import annotations

import logging
import math

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.optim import Optimizer

from tl_lightning.batch import Batch
from tl_lightning.errors import DivergedError
from tl_lightning.fully_sharded import whole
from tl_lightning.learner import learner

log = logging.getLogger(__name__)

IN_A_ROW = 10  # steps that could not be taken, after which the run ends


class FiniteSteps(Callback):
    """Leaves out optimizer steps whose loss or gradients are not finite, and counts them.

    BatchNorm's statistics that such a batch has spoiled go back to those at the epoch's start. Raises DivergedError
    after ten in a row, or an epoch without any other, naming epoch, step, rate, files and what to go on from.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._row = self._taken = 0
        self._index = torch.zeros(0, dtype=torch.long)
        self._statistics: dict[str, Tensor] = {}
        self._skipped_at = (-1, -1)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count anew, and remember the statistics."""
        self._taken = 0
        self._statistics = {k: b.clone() for k, b in pl_module.named_buffers() if b.is_floating_point()}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Remember which samples the next step is made of."""
        self._index = batch.index  # on the device: asked for when it is needed

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Take the gradients away if they, or the loss, are not finite: no optimizer moves a parameter without."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        norm = whole(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        loss = learner(pl_module).latest_loss
        finite = bool(torch.isfinite(norm if loss is None else norm + loss.to(norm)))
        if trainer.strategy.reduce_boolean_decision(finite):
            self._taken, self._row = self._taken + 1, 0
            return
        optimizer.zero_grad(set_to_none=True)
        self._skip(trainer, pl_module)

    def _skip(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        at = (trainer.current_epoch, trainer.fit_loop.batch_idx)
        if at == self._skipped_at:  # the second look of an optimizer that looks twice
            return
        self._skipped_at = at
        self.skipped, self._row = self.skipped + 1, self._row + 1
        with torch.no_grad():
            for name, buffer in pl_module.named_buffers():
                if name in self._statistics and not torch.isfinite(buffer).all():
                    buffer.copy_(self._statistics[name])
        if self.skipped == 1 and trainer.is_global_zero:
            log.warning(f"{self._where(trainer)}: loss or gradients are not finite, the step is left out")
        if self._row >= IN_A_ROW:
            raise DivergedError(self._message(trainer, f"{self._row} steps in a row"))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say if the epoch's numbers are not finite. Raises DivergedError if none of its steps could be taken."""
        if not self._taken and self._row:
            raise DivergedError(self._message(trainer, "no step of this epoch could be taken"))
        if not epoch_is_finite(trainer) and trainer.is_global_zero:
            log.warning(
                f"epoch {trainer.current_epoch}: the loss is not finite, so this epoch is kept neither as the best nor "
                "as the last; lower optimizer.lr"
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how many steps were left out."""
        if self.skipped and trainer.is_global_zero:
            log.warning(f"{self.skipped} steps were left out: their loss or gradients were not finite")

    def _where(self, trainer: L.Trainer) -> str:
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        named = getattr(getattr(trainer, "datamodule", None), "names", None)
        files = f", batch {', '.join(named('train', self._index[:4].tolist()))}" if named else ""
        more = " ..." if named and len(self._index) > 4 else ""
        return f"epoch {trainer.current_epoch}, step {trainer.global_step}, rate {max(rates):.2g}{files}{more}"

    def _message(self, trainer: L.Trainer, what: str) -> str:
        checkpoints = [str(c.best_model_path) for c in trainer.checkpoint_callbacks
                       if isinstance(c, ModelCheckpoint) and c.best_model_path]  # fmt: skip
        kept = f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "no checkpoint had been kept"
        return (
            f"training diverged: loss or gradients are not finite, {what} ({self._where(trainer)}); {kept}; lower "
            "optimizer.lr, set trainer.gradient_clip_val=1, or take trainer.precision=32-true"
        )


def epoch_is_finite(trainer: L.Trainer) -> bool:
    """Whether the losses of the epoch, of training and of validation, are numbers."""
    seen = trainer.callback_metrics
    return all(math.isfinite(float(seen[key])) for key in ("train/loss_epoch", "val/loss") if key in seen)
