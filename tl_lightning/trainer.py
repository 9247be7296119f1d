"""Lightning's Trainer as a plan needs it."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from tl_lightning import checks
from tl_lightning.errors import UserError
from tl_lightning.files import atomically
from tl_lightning.fully_sharded import FSDP2Strategy

_OWN = ("compile", "channels_last")  # options of ours among the trainer's


def check_options(options: Mapping[str, Any]) -> None:
    """Raise UserError for values that would fail late, or not at all."""
    for key in ("max_epochs", "accumulate_grad_batches", "log_every_n_steps"):
        checks.whole(f"trainer.{key}", options.get(key, 1), 1)
    if options.get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu: there is no usable CUDA GPU here; take trainer=cpu")
    for key, only in (("check_val_every_n_epoch", 1), ("overfit_batches", 0)):
        if options.get(key, only) != only:
            raise UserError(f"trainer.{key} must stay {only}: every epoch trains and validates on images of its own")
    if options.get("sync_batchnorm"):
        raise UserError(
            "trainer.sync_batchnorm=true replaces the layers that the plan freezes: leave it out, and where BatchNorm "
            "learns its statistics (strategy.norm=track or train) give each process a batch large enough for them"
        )
    if options.get("precision") in ("16-true", 16, "16"):
        raise UserError(
            f"trainer.precision={options['precision']}: gradients vanish where weights, too, are in half precision: "
            "take 16-mixed, bf16-mixed or bf16-true"
        )
    for key in ("limit_val_batches", "limit_train_batches"):
        if options.get(key, 1) == 0:
            raise UserError(f"trainer.{key}=0 leaves nothing to do: take at least 1")


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or absent: Lightning's own way is through the temporary folder, which may be full."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write one. Raises OSError where the disk takes no more."""
        whole = io.BytesIO()  # torch's writer turns whatever a file raises, an interrupt too, into an error of its own
        torch.save(checkpoint, whole)
        atomically(Path(path), lambda draft: draft.write_bytes(whole.getbuffer()))


def build_trainer(
    options: Mapping[str, Any], callbacks: Sequence[Callback], loggers: Sequence[Logger], run: Path
) -> L.Trainer:
    """The Trainer with these callbacks and no others. UserError for other strategies than its ddp and fsdp2.

    A progress bar is left out where nobody looks.
    """
    kept = [c for c in callbacks if shows_progress() or not isinstance(c, ProgressBar)]
    given = {k: v for k, v in options.items() if k not in _OWN}
    # what is left out Lightning would put back
    given["enable_checkpointing"] = any(isinstance(c, ModelCheckpoint) for c in kept)
    given["enable_progress_bar"] = any(isinstance(c, ProgressBar) for c in kept)
    given["plugins"] = [*(given.get("plugins") or ()), WholeCheckpoints()]
    trainer = L.Trainer(**given, callbacks=kept, logger=list(loggers), default_root_dir=run)
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy, FSDP2Strategy)):
        name = type(trainer.strategy).__name__
        raise UserError(f"trainer.strategy={options['strategy']}: {name} is not tried here; take auto, ddp or fsdp2")
    return trainer


def shows_progress() -> bool:
    """Whether somebody sees a bar that is redrawn: in a terminal, or in a notebook that has the widgets for it."""
    return sys.stdout.isatty() or ("ipykernel" in sys.modules and find_spec("ipywidgets") is not None)
