"""A stop from outside that is not lost: Ctrl-C, SIGTERM of a scheduler, a terminal that is closed."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupt(Callback):
    """Stops at the next batch if a KeyboardInterrupt was swallowed on its way; `received` is the signal.

    Not every library lets it pass: fsspec, through which Lightning reads its files, answers any exception in `exists`
    with False, and so does C code that asks an object written in Python for an attribute.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Listen."""
        if stage == "fit":
            self.received = None
            try:
                self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
            except ValueError:  # not the main thread, which is the one that is interrupted
                self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        raise KeyboardInterrupt

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop, if that was asked for."""
        if self.received is not None:
            raise KeyboardInterrupt

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let others listen again."""
        if stage == "fit":
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before = {}
