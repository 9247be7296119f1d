"""The table of each phase: what learns, how fast, what BatchNorm does."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table

from tl_lightning.backbones.norms import batch_norms
from tl_lightning.learner import Learner, learner
from tl_lightning.reports import writers
from tl_lightning.reports.markdown import markdown

log = logging.getLogger(__name__)

COLUMNS = ("stage", "parameters", "trainable", "rate", "norm")


class PhaseTable(Callback):
    """Shows the table whenever a phase begins, in the log and in TensorBoard."""

    def __init__(self) -> None:
        self._announced: int | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before the first batch of a phase, once its parameters have been frozen and thawed."""
        module, epoch = learner(pl_module), trainer.current_epoch
        index = module.plan.index(epoch)
        if batch_idx or index == self._announced:
            return
        self._announced = index
        first, after = module.plan.span(index, trainer.max_epochs or 1)
        rows = table(module, index, base=max(g["initial_lr"] for g in trainer.optimizers[0].param_groups))
        title = f"phase {index + 1} of {len(module.plan.phases)}: epochs {first} to {after - 1}"
        if trainer.is_global_zero:
            for line in _as_text(title, rows).splitlines():
                log.info(line)
        writers.add_text(trainer.loggers, "phase", f"**{title}**\n\n{markdown(COLUMNS, rows)}", first)


def table(module: Learner, index: int, base: float) -> list[tuple[str, str, str, str, str]]:
    """Rows (stage, parameters, trainable, rate, norm mode) of one phase; the rate is its peak."""
    rows = []
    for member in module.members.all:
        total = sum(p.numel() for _, p in member.parameters)
        trainable = sum(p.numel() for _, p in member.parameters if p.requires_grad)
        speed = module.plan.speed(index, member.name)
        norm = (module.plan.norm if speed else "frozen") if batch_norms(member.modules) else "-"
        rows.append((member.name, f"{total:,}", f"{trainable:,}", f"{base * speed:.1e}" if speed else "0", norm))
    return rows


def _as_text(title: str, rows: list[tuple[str, str, str, str, str]]) -> str:
    grid = Table(*COLUMNS, title=title, title_justify="left")
    for column in grid.columns[1:4]:
        column.justify = "right"
    for row in rows:
        grid.add_row(*row)
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(grid)
    return captured.get().rstrip()
