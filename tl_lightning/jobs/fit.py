"""Lightning's fit, as every job uses it."""

from __future__ import annotations

import logging
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch
from lightning.pytorch.accelerators import CPUAccelerator

from tl_lightning.callbacks.interrupt import Interrupt
from tl_lightning.errors import Stopped
from tl_lightning.runs.folder import RunFolder


def fit(
    trainer: L.Trainer,
    module: L.LightningModule,
    data: L.LightningDataModule,
    folder: RunFolder,
    checkpoint: str | None,
    script: str = "train.py",
) -> float:
    """Lightning's fit, from a checkpoint if there is one; gives the seconds it took.

    Raises Stopped, with the `script` and the folder to go on with, where a signal ended it.
    """
    began = time.perf_counter()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except BaseException as stop:
        number = _signal(trainer, stop)
        if number is None:
            raise
        kept = any(checkpoint.is_file() for checkpoint in folder.checkpoints)
        way = f"go on with: python {script} resume={folder.path}" if kept else "no epoch was finished to go on from"
        by = "by hand" if number == signal.SIGINT else f"by {signal.Signals(number).name}"
        raise Stopped(f"stopped {by}; {way}", number) from stop
    return time.perf_counter() - began


def _signal(trainer: L.Trainer, stop: BaseException) -> int | None:
    """The signal that ended training, whatever a library on its way has made of it; None for an error."""
    listening = [c for c in trainer.callbacks if isinstance(c, Interrupt)]  # type: ignore[attr-defined]
    received = next((c.received for c in listening if c.received is not None), None)
    return signal.SIGINT if received is None and isinstance(stop, SystemExit) else received  # Lightning's for Ctrl-C


@contextmanager
def shared_threads(trainer: L.Trainer) -> Iterator[None]:
    """While inside, processes that train on one CPU share its cores."""
    threads = torch.get_num_threads()
    if trainer.num_devices > 1 and isinstance(trainer.accelerator, CPUAccelerator):
        torch.set_num_threads(max(1, threads // trainer.num_devices))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def quiet() -> None:
    """Only what concerns the user reaches the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for noise in (
        "does not have many workers",  # the loader knows the cores at hand
        "LeafSpec",
        "`IterableDataset` has `__len__` defined",  # each worker knows its share
        "Checkpoint directory .* exists and is not empty",  # a resumed run's own
        "is smaller than the logging interval",  # epochs are logged whatever their length
        "The `srun` command is available",  # on the login node of a cluster
        "WeightAveraging callback with a model that overrides",  # it divides parameters, where averages are refused
        "returned a view tensor. An in-place op",  # FSDP2: no head and no stage changes in place what it is given
        "No positive samples found in target",  # a class that a split lacks has no precision, and none is reported
        "Glyph .* missing",  # class names in scripts that matplotlib's font has not
    ):
        warnings.filterwarnings("ignore", message=f".*{noise}.*")
