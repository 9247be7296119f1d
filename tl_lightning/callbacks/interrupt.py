"""Ctrl-C that is not lost."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class Interrupt(Callback):
    """Stops at the next batch if a KeyboardInterrupt was swallowed on its way.

    Not every library lets it pass: fsspec, through which Lightning writes its files, answers any exception in `exists`
    with False, and so does C code that asks an object written in Python for an attribute.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Listen."""
        if stage == "fit":
            self._asked = False
            try:
                self._before = signal.signal(signal.SIGINT, self._ask)
            except ValueError:  # not the main thread, which is the one that is interrupted
                self._before = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        raise KeyboardInterrupt

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop, if that was asked for."""
        if self._asked:
            raise KeyboardInterrupt

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let others listen again."""
        if stage == "fit" and self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
