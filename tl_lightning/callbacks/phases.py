"""Makes the learner obey its plan: who has gradients, who is in training mode, epoch by epoch."""

from __future__ import annotations

import gc
import logging

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tl_lightning.module import TransferModule, learner

log = logging.getLogger(__name__)


class Phases(Callback):
    """Applies the phase that an epoch belongs to, again at the start of every epoch.

    The trainable set is a pure function of the epoch, so a resumed run cannot differ from one never stopped;
    for the same reason each epoch starts from a random state of its own. Frozen means no gradients and eval().
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._applied: int | None = None
        self._announced: int | None = None
        self._momenta: dict[_BatchNorm, float | None] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Freeze before a distributed strategy wraps the model, so that frozen stages cost nothing there."""
        if stage == "fit":
            apply(learner(pl_module), trainer.current_epoch)
            pl_module.train()  # modes are set at each epoch's start; until then Lightning warns of any eval()
            self._applied = learner(pl_module).plan.index(trainer.current_epoch)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Enter the epoch's phase; on a change tell the distributed wrapper and the compiler, and print the table."""
        module, epoch = learner(pl_module), trainer.current_epoch
        torch.manual_seed(self.seed * 1_000_003 + epoch * 1009 + trainer.global_rank)
        apply(module, epoch)
        index = module.plan.index(epoch)
        if index != self._applied:
            _rewrap(trainer)
            torch._dynamo.reset()  # compiled code may have been guarded on the old set (pytorch#139476)
        if index != self._announced:
            self._announce(trainer, module, index)
        self._applied = self._announced = index

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Random weights take their BatchNorm statistics from the first batch, not from the placeholders 0 and 1.

        Activations of random weights are so small that the placeholders drown them for hundreds of steps: the
        network would learn in training and give one answer to everything in evaluation.
        """
        if batch_idx == 0 and not learner(pl_module).backbone.pretrained:
            for m in (m for m in pl_module.modules() if isinstance(m, _BatchNorm)):
                if m.training and m.num_batches_tracked == 0:
                    self._momenta[m], m.momentum = m.momentum, 1.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """From the second batch on, statistics follow at their own pace."""
        for m, momentum in self._momenta.items():
            m.momentum = momentum
        self._momenta.clear()

    def _announce(self, trainer: L.Trainer, module: TransferModule, index: int) -> None:
        first, after = module.plan.span(index, trainer.max_epochs or 1)
        rows = table(module, index, base=max(g["initial_lr"] for g in trainer.optimizers[0].param_groups))
        title = f"phase {index + 1} of {len(module.plan.phases)}: epochs {first} to {after - 1}"
        if trainer.is_global_zero:
            log.info(_as_text(title, rows))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("phase", f"**{title}**\n\n{_as_markdown(rows)}", first)


class PhasedEarlyStopping(EarlyStopping):
    """EarlyStopping that starts counting in the last phase, when everything that should learn does."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check, unless stages still wait for their turn."""
        if _in_last_phase(trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check, unless stages still wait for their turn."""
        if _in_last_phase(trainer, pl_module):
            super().on_validation_end(trainer, pl_module)


def _in_last_phase(trainer: L.Trainer, pl_module: L.LightningModule) -> bool:
    plan = learner(pl_module).plan
    return plan.index(trainer.current_epoch) == len(plan.phases) - 1


def apply(module: TransferModule, epoch: int) -> None:
    """Set gradients and modes of every stage and the head for one epoch. Idempotent."""
    index = module.plan.index(epoch)
    module.train()
    for name, named, modules in module.owners():
        learning = module.plan.speed(index, name) > 0
        chosen = {p for _, p in module.learners(name)} if learning else set()
        for _, parameter in named:
            parameter.requires_grad_(parameter in chosen)
            if parameter not in chosen:
                parameter.grad = None  # a stale gradient would still be stepped on, with its momentum
        for m in modules:
            m.training = learning
        if learning and name in module.plan.stages:
            _set_norm(modules, module.plan.norm)


def _set_norm(modules: list[nn.Module], mode: str) -> None:
    for m in modules:
        if isinstance(m, _BatchNorm):
            m.training = mode != "eval"
            if mode == "track":
                m.requires_grad_(False)


def table(module: TransferModule, index: int, base: float) -> list[tuple[str, str, str, str, str]]:
    """Rows (stage, parameters, trainable, rate, norm mode) of one phase; the rate is its peak."""
    rows = []
    for name, named, modules in module.owners():
        total = sum(p.numel() for _, p in named)
        trainable = sum(p.numel() for _, p in named if p.requires_grad)
        has_norm = any(isinstance(m, _BatchNorm) for m in modules)
        speed = module.plan.speed(index, name)
        norm = (module.plan.norm if speed else "frozen") if has_norm else "-"
        rows.append((name, f"{total:,}", f"{trainable:,}", f"{base * speed:.1e}" if speed else "0", norm))
    return rows


_COLUMNS = ("stage", "parameters", "trainable", "rate", "norm")


def _as_text(title: str, rows: list[tuple[str, str, str, str, str]]) -> str:
    grid = Table(*_COLUMNS, title=title, title_justify="left")
    for column in grid.columns[1:4]:
        column.justify = "right"
    for row in rows:
        grid.add_row(*row)
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(grid)
    return captured.get().rstrip()


def _as_markdown(rows: list[tuple[str, str, str, str, str]]) -> str:
    lines = [_COLUMNS, ("---",) * len(_COLUMNS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rewrap(trainer: L.Trainer) -> None:
    """Wrap again: DDP averages only what had gradients when it wrapped (pytorch-lightning#20340)."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy):
        module = strategy.lightning_module
        assert module is not None
        strategy.model = None
        gc.collect()  # the old reducer's hooks must be gone before the new one registers its own
        strategy.model = strategy._setup_model(module)
        strategy._register_ddp_hooks()
