"""What a run is told that cannot be meant together, refused before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import nn

from tl_lightning import fully_sharded
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.norms import batch_norms
from tl_lightning.callbacks.forgetting import Forgetting
from tl_lightning.config.settings import Settings
from tl_lightning.data.datamodule import LabelledData
from tl_lightning.errors import UserError, nearest
from tl_lightning.heads.solve import linear_of
from tl_lightning.module import TransferModule
from tl_lightning.strategies.plan import Plan
from tl_lightning.tasks.task import Task

_GROUPS = ("backbone", "data", "task", "strategy", "head", "regularizer", "optimizer", "schedule")


def refuse_objects(settings: Settings) -> None:
    """Raise UserError for parts that further processes, which read config.yaml, cannot be given."""
    plain = (Mapping, str, bool, int, float, type(None))
    of_groups = {name: getattr(settings, name) for name in _GROUPS}
    listed = {f"{group}.{k}": v for group in ("callbacks", "logger") for k, v in getattr(settings, group).items()}
    if objects := [name for name, spec in {**of_groups, **listed}.items() if not isinstance(spec, plain)]:
        raise UserError(
            f"{objects[0]} is an object, which only this process has: on several devices name what makes it "
            f"({objects[0]}._target_=my_package.name allow=[my_package]), or take trainer.devices=1"
        )


def refuse_parts(backbone: Any, data: Any) -> None:
    """Raise UserError for a backbone or data that are none, or that do not belong together."""
    if not isinstance(backbone, Backbone):
        raise UserError(f"backbone: {_short(backbone)} is no Backbone: tl_lightning.backbones.from_module makes one")
    if not isinstance(data, LabelledData):
        raise UserError(f"data: {_short(data)} is no LabelledData; data from Python are given again in every call")
    if data.input != backbone.input:
        raise UserError(
            f"data: they are made for {data.input}, the backbone takes {backbone.input}: make them with backbone.input"
        )


def refuse_plan(plan: Plan, backbone: Backbone, head: nn.Module, trainer: Mapping[str, Any], batch_size: int) -> None:
    """Raise UserError for a plan that the run's length, its batches, its reader of stages or its head do not allow."""
    moving = [s for s in backbone.stages if plan.learns_ever(s.name) and batch_norms(backbone.stage_modules(s))]
    if batch_size == 1 and plan.norm != "eval" and moving:
        raise UserError(
            f"data.batch_size=1: the BatchNorm of {moving[0].name} learns its statistics from each batch, and one "
            "sample has none: take 2 or more, or strategy.norm=eval"
        )
    if not trainer.get("fast_dev_run"):
        plan.check_length(trainer["max_epochs"])
    if backbone.reader is not None and 0 < plan.boundary < len(plan.stages):
        raise UserError("strategy.taps=true reads every stage, so all must learn or none: take strategy.decay above 0")
    if plan.solve:
        linear_of(head)  # now rather than after the features are there


def refuse_division(module: TransferModule, trainer: L.Trainer, options: Mapping[str, Any]) -> None:
    """Raise UserError for what cannot be trained where parameters are divided over the devices."""
    if not fully_sharded.divides(trainer):
        return
    fully_sharded.refuse(module.plan, module.backbone, module.head, module.regularizer)
    fully_sharded.refuse_trainer(trainer)
    if options.get("compile"):
        raise UserError(f"trainer.compile is not tried with trainer.strategy={fully_sharded.NAME}: leave it out")


def refuse_monitor(key: str, callback: Callback, task: Task) -> None:
    """Raise UserError for a score that nothing reports, or one that is looked at from the wrong side."""
    monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
    if not isinstance(monitor, str) or monitor.startswith(Forgetting.reported):
        return
    known = task.score_names()
    if monitor not in known:
        raise UserError(f"{key}.monitor={monitor} is a score that nothing reports: {nearest(monitor, known)}")
    if mode in ("min", "max") and mode != task.mode(monitor):
        better = "higher" if task.rises(monitor) else "lower"
        raise UserError(
            f"{key}.mode={mode}: {monitor} is the better the {better}: say mode={task.mode(monitor)}, or leave it out"
        )


def _short(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:60]!r}"
