"""From plain values to live objects: facts flow one way."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.optim import Optimizer

from tl_lightning import optim, targets
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.callbacks.interrupt import Interrupt
from tl_lightning.callbacks.running_time import RunningTime
from tl_lightning.config.settings import Settings, Spec
from tl_lightning.conflicts import refuse_division, refuse_monitor, refuse_objects, refuse_parts, refuse_plan
from tl_lightning.data.datamodule import LabelledData
from tl_lightning.errors import UserError, nearest
from tl_lightning.features.facts import measure
from tl_lightning.features.frozen import Frozen, Options
from tl_lightning.module import TransferModule
from tl_lightning.regularizers import Regularizer
from tl_lightning.reports.curves import Curves
from tl_lightning.reports.phase_table import PhaseTable
from tl_lightning.reports.progress import Heartbeat
from tl_lightning.runs.folder import RunFolder
from tl_lightning.strategies.plan import Facts, Plan, Strategy
from tl_lightning.trainer import build_trainer, check_options, shows_progress
from tl_lightning.transferability.evidence import Evidence

log = logging.getLogger(__name__)

Attempt = Callable[[LabelledData, Strategy, float], float]  # accuracy of a strategy after so many seconds of training


@dataclass(frozen=True)
class Setup:
    """All that a run is made of; `evidence` is what an advised strategy rests on."""

    module: TransferModule
    data: LabelledData
    strategy: Strategy
    trainer: L.Trainer
    frozen: Frozen
    evidence: Evidence | None = None


def build(settings: Settings, attempt: Attempt | None = None) -> Setup:
    """Backbone > data > task > strategy > head > plan > module > trainer.

    Raises UserError before anything is trained.
    """
    backbone, data, facts = gather(settings, attempt)
    strategy: Strategy = made(settings, "strategy").given(facts)
    backbone = strategy.shape(backbone)
    head: nn.Module = made(settings, "head", backbone.feature_dim, data.task.start())
    plan = strategy.plan(backbone.stage_names)
    refuse_plan(plan, backbone, head, settings.trainer, data.batch_size)
    regularizer = _regularizer(settings, backbone, plan)
    optimizer = _optimizer(settings)
    schedule = made(settings, "schedule")
    module = TransferModule(backbone, head, plan, data.task, optimizer, schedule, regularizer)
    module.seed = settings.seed
    _prepare_network(module, settings.trainer)
    callbacks = _callbacks(settings, module)
    loggers = [made_of(settings, "logger", spec) for spec in settings.logger.values() if spec]
    with refusing("trainer"):
        trainer = build_trainer(settings.trainer, callbacks, loggers, settings.run_dir)
    refuse_division(module, trainer, settings.trainer)
    if trainer.world_size > 1:
        refuse_objects(settings)
    frozen = Frozen(backbone, plan, data, feature_options(settings))
    return Setup(module, data, strategy, trainer, frozen, facts.evidence)


def gather(settings: Settings, attempt: Attempt | None = None) -> tuple[Backbone, LabelledData, Facts]:
    """Backbone, data, and the facts that a strategy may ask for. Raises UserError for values that cannot be meant."""
    check_options(settings.trainer)
    options = feature_options(settings)
    L.seed_everything(settings.seed, workers=True, verbose=False)
    backbone = _backbone(settings)
    data: LabelledData = made(settings, "data", backbone.input, made(settings, "task"))
    refuse_parts(backbone, data)
    device = device_of(settings)
    facts = Facts(
        backbone.pretrained,
        backbone.small_rates,
        len(data.task.outputs),
        data.samples.size("train"),
        backbone.all_layers,
        data.samples.noun,
        measure=lambda: measure(backbone, data, options, device),
        attempt=partial(attempt, data) if attempt else None,
    )
    return backbone, data, facts


def device_of(settings: Settings) -> torch.device:
    """Where networks run before there is a Trainer."""
    cuda = settings.trainer.get("accelerator") != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")


def _backbone(settings: Settings) -> Backbone:
    """The network; of a resumed run whose pretrained weights are gone, one that a checkpoint brings the weights to."""
    try:
        found: Backbone = made(settings, "backbone")
    except UserError as error:
        spec, library = settings.backbone, RunFolder(settings.run_dir).library
        if not settings.resume or not isinstance(spec, Mapping) or spec.get("weights") is None:
            raise
        log.warning(f"{error}: the run goes on with the weights in its checkpoint, and measures no forgetting")
        named = {"name": str(library)} if library.is_dir() else {}
        found = made(replace(settings, backbone={**spec, "weights": None, **named}), "backbone")
        found.await_weights()
    return found


def feature_options(settings: Settings) -> Options:
    """How what is frozen is computed. Raises UserError for values that cannot be meant."""
    shown = settings.callbacks.get("progress") is not None and shows_progress()
    return Options(settings.cache, settings.engine, settings.cache_dtype, shown)


def _regularizer(settings: Settings, backbone: Backbone, plan: Plan) -> Regularizer | None:
    regularizer: Regularizer | None = made(settings, "regularizer", backbone)
    if regularizer and not plan.moves:
        log.info("no stage learns: there is nothing for the regularizer to hold on to, and it is left out")
        return None
    return regularizer


def _optimizer(settings: Settings) -> Callable[[list[dict[str, Any]]], Optimizer]:
    """What makes the optimizer of parameter groups, tried now rather than after the data is loaded."""
    make: Callable[[list[dict[str, Any]]], Optimizer] = made(settings, "optimizer")
    texts = {k: v for k, v in getattr(make, "keywords", {}).items() if isinstance(v, str)}
    of_text = f", given {', '.join(f'{k}={v}' for k, v in texts.items())}" if texts else ""
    with refusing(f"optimizer{of_text}"):
        optim.refuse_trainer(make([{"params": [nn.Parameter(torch.zeros(1))]}]), settings.trainer)
    return make


def _prepare_network(module: TransferModule, trainer: Mapping[str, Any]) -> None:
    if trainer.get("channels_last"):
        module.to(memory_format=torch.channels_last)
    if backend := trainer.get("compile"):
        if backend not in torch.compiler.list_backends(exclude_tags=()):
            raise UserError(f"trainer.compile={backend}: {nearest(backend, torch.compiler.list_backends())}")
        if not module.backbone.library.compiles:
            raise UserError("trainer.compile is for torchvision's networks: leave it out")
        module.backbone.compile(backend=backend)


def _callbacks(settings: Settings, module: TransferModule) -> list[Callback]:
    """The learner's own, then those of the configuration."""
    own: list[Callback] = [
        Interrupt(),
        RunningTime(),
        PhaseTable(),
        Curves(every=settings.trainer.get("log_every_n_steps", 10)),
    ]
    if not shows_progress():
        own.append(Heartbeat())
    for name, spec in settings.callbacks.items():
        if spec is not None:
            own.append(_completed(f"callbacks.{name}", made_of(settings, "callbacks", spec), module))
            if not settings.allow:  # what else could report a score of its own
                refuse_monitor(f"callbacks.{name}", own[-1], module.task)
    return own


def _completed(key: str, callback: Any, module: TransferModule) -> Callback:
    """A callback; one that the configuration leaves open is given the learner, before anything has moved."""
    with refusing("callbacks"):
        found = callback(module) if isinstance(callback, partial) else callback
    if not isinstance(found, Callback):
        raise UserError(f"{key}={found} is no callback; one that was given from Python is given again in every call")
    return found


def made(settings: Settings, group: str, *facts: Any) -> Any:
    """What a group describes, given the facts that its constructor still misses."""
    built = made_of(settings, group, getattr(settings, group))
    if not facts or not callable(built) or isinstance(built, (nn.Module, L.LightningDataModule)):
        return built
    with refusing(group):
        return built(*facts)


def made_of(settings: Settings, group: str, spec: Spec) -> Any:
    """What a description of a group means; an object from Python is itself."""
    if not isinstance(spec, Mapping):
        return spec
    with refusing(group):
        return targets.build(spec, settings.allow)


@contextmanager
def refusing(group: str) -> Iterator[None]:
    """What a constructor says of its arguments, as a UserError that names their group."""
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, ArithmeticError, MisconfigurationException) as error:
        raise UserError(f"{group}: {' '.join(str(error).split())}") from error
