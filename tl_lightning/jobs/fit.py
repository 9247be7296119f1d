"""Lightning's fit, as every job uses it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch
from lightning.pytorch.accelerators import CPUAccelerator

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

    Stopped by hand it raises KeyboardInterrupt with the `script` and the folder to go on with.
    """
    began = time.perf_counter()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as stop:  # Lightning's answer to Ctrl-C
        kept = folder.last_checkpoint.is_file()
        way = f"go on with: python {script} resume={folder.path}" if kept else "no epoch was finished to go on from"
        raise KeyboardInterrupt(f"stopped by hand; {way}") from stop  # an interrupt ends a sweep, too
    return time.perf_counter() - began


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
        "Glyph .* missing",  # class names in scripts that matplotlib's font has not
    ):
        warnings.filterwarnings("ignore", message=f".*{noise}.*")
