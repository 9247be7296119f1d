"""BatchNorm: which modules are one, what their statistics do, and how they are taken anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tl_lightning.batch import Inputs

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
NORM_LAYERS = (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


def batch_norms(modules: Iterable[nn.Module]) -> list[BatchNorm]:
    """Those of the modules that are a BatchNorm."""
    return [m for m in modules if isinstance(m, BATCH_NORMS)]


def with_statistics(modules: Iterable[nn.Module]) -> list[BatchNorm]:
    """Those of the modules that are a BatchNorm and keep statistics."""
    return [m for m in batch_norms(modules) if m.track_running_stats]


def set_mode(modules: Iterable[nn.Module], mode: str) -> None:
    """What the BatchNorms of a stage that learns do: "eval", "track" or "train" (see strategies/plan.py)."""
    for norm in batch_norms(modules):
        norm.training = mode != "eval"
        if mode == "track":
            norm.requires_grad_(False)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """While inside, BatchNorm in training mode normalises by the batch and leaves its statistics as they are."""
    norms = [(norm, norm.momentum) for norm in batch_norms(module.modules()) if norm.training]
    for norm, _ in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum


class FirstBatch:
    """Random weights take their BatchNorm statistics from the first batch, not from the placeholders 0 and 1.

    Activations of random weights are so small that the placeholders drown them for hundreds of steps: the network would
    learn in training and give one answer to everything in evaluation.
    """

    def __init__(self) -> None:
        self._momenta: dict[BatchNorm, float | None] = {}

    def begin(self, module: nn.Module) -> None:
        """Before the first batch: statistics that are still placeholders will be replaced by the batch's."""
        for norm in batch_norms(module.modules()):
            if norm.training and norm.num_batches_tracked == 0:
                self._momenta[norm], norm.momentum = norm.momentum, 1.0

    def end(self) -> None:
        """After it: statistics follow at their own pace."""
        for norm, momentum in self._momenta.items():
            norm.momentum = momentum
        self._momenta.clear()


@torch.no_grad()
def recalibrate(net: nn.Module, batches: Iterable[Inputs]) -> None:
    """Set the statistics of every BatchNorm to those of batches (N, 3, H, W), normalised, each counting the same."""
    norms = batch_norms(net.modules())
    before = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for images in batches:
        net(images)
    for norm, (momentum, training) in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.train(training)
