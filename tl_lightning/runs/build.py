"""From a configuration to live objects: facts flow one way, and the configuration stops here."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hydra.utils
import lightning as L
import torch
from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from omegaconf import DictConfig, OmegaConf
from torch import nn

from tl_lightning.backbones.backbone import Backbone
from tl_lightning.callbacks.forgetting import Forgetting
from tl_lightning.callbacks.interrupt import Interrupt
from tl_lightning.callbacks.phases import Phases
from tl_lightning.data.labelled import LabelledData
from tl_lightning.errors import UserError, nearest
from tl_lightning.features import solve
from tl_lightning.features.facts import measure
from tl_lightning.features.frozen import Frozen, Options
from tl_lightning.inputs import TextInput
from tl_lightning.module import TransferModule
from tl_lightning.regularizers import Regularizer
from tl_lightning.reports.tensorboard import Report
from tl_lightning.runs import checks
from tl_lightning.runs.trials import attempt
from tl_lightning.strategies.plan import Facts, Strategy
from tl_lightning.transferability.evidence import Evidence

log = logging.getLogger(__name__)

# What a configuration may build. A run's config.yaml may come from somebody else: it must not call anything.
_ALLOWED = ("tl_lightning.", "torch.optim.", "lightning.pytorch.callbacks.", "lightning.pytorch.loggers.")


@dataclass(frozen=True)
class Parts:
    """All that a run is made of; `evidence` is what an advised strategy rests on."""

    module: TransferModule
    data: LabelledData
    strategy: Strategy
    trainer: L.Trainer
    frozen: Frozen
    evidence: Evidence | None = None


def instantiate(cfg: Any, *args: Any, **kwargs: Any) -> Any:
    """Hydra's instantiate for targets of this package, torch's optimizers, Lightning's callbacks and loggers."""
    for target in _targets(OmegaConf.to_container(cfg, resolve=False)):
        # by its name, and by where it is defined: tl_lightning.paths.os.system begins well
        if not (target.startswith(_ALLOWED) and _home(target).startswith(_ALLOWED)):
            raise UserError(
                f"_target_ '{target}' may not be built from a configuration: allowed are {', '.join(_ALLOWED)}"
            )
    return hydra.utils.instantiate(cfg, *args, **kwargs)


def _home(target: str) -> str:
    made_by = hydra.utils.get_object(target)
    return f"{getattr(made_by, '__module__', '')}.{getattr(made_by, '__qualname__', '')}"


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _targets(child)


def build(cfg: DictConfig) -> Parts:
    """Backbone > data > strategy > head > plan > module > trainer. Raises UserError before anything is trained."""
    backbone, data, facts = gather(cfg)
    options: dict[str, Any] = OmegaConf.to_container(cfg.trainer, resolve=True)  # type: ignore[assignment]
    strategy: Strategy = _made(cfg, "strategy").given(facts)
    backbone = strategy.shape(backbone)
    head: nn.Module = _made(cfg, "head", backbone.feature_dim, data.prior())
    plan = strategy.plan(backbone.stage_names)
    if not options.get("fast_dev_run"):
        plan.check_length(options["max_epochs"])
    if backbone.taps and 0 < plan.boundary < len(plan.stages):
        raise UserError("strategy.taps=true reads every stage, so all must learn or none: take strategy.decay above 0")
    if plan.solve:
        solve.linear_of(head)  # now rather than after the features are there
    regularizer: Regularizer | None = _made(cfg, "regularizer", backbone)
    if regularizer and not plan.moves:
        log.info("no stage learns: there is nothing for the regularizer to hold on to, and it is left out")
        regularizer = None
    make_optimizer = _made(cfg, "optimizer")
    with refusing("optimizer"):
        make_optimizer([nn.Parameter(torch.zeros(1))])  # now rather than after the data is loaded
    module = TransferModule(
        backbone,
        head,
        plan,
        data.classes,
        make_optimizer,
        _made(cfg, "schedule"),
        label_smoothing=cfg.label_smoothing,
        class_weights=data.class_weights,
        regularizer=regularizer,
        multi=data.folder.multi,
    )
    if options.pop("channels_last"):
        module.to(memory_format=torch.channels_last)
    if backend := options.pop("compile"):
        if backend not in torch.compiler.list_backends(exclude_tags=()):
            raise UserError(f"trainer.compile={backend}: {nearest(backend, torch.compiler.list_backends())}")
        if backbone.between is not None:  # by the library's forward, with other modules in the place of some
            raise UserError("trainer.compile is for torchvision's networks: leave it out")
        module.backbone.compile(backend=backend)
    trainer = build_trainer(cfg, options, module)
    return Parts(module, data, strategy, trainer, Frozen(backbone, plan, data, _keeping(cfg)), facts.evidence)


def gather(cfg: DictConfig) -> tuple[Backbone, LabelledData, Facts]:
    """Backbone, data, and the facts that a strategy may ask for."""
    checks.check(cfg)
    keeping = _keeping(cfg)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    backbone: Backbone = _made(cfg, "backbone")
    data: LabelledData = _made(cfg, "data", backbone.input, _made(cfg, "augment"))
    cuda = cfg.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    images = data.folder.size("train")
    facts = Facts(
        backbone.pretrained,
        backbone.gentle,
        len(data.classes),
        images,
        isinstance(backbone.input, TextInput),
        measure=lambda: measure(backbone, data, keeping, device),
        attempt=lambda strategy, seconds: attempt(cfg, data.folder, strategy, seconds),
    )
    return backbone, data, facts


def _keeping(cfg: DictConfig) -> Options:
    cache = "off" if cfg.cache is False else cfg.cache  # which is how YAML reads the word
    shown = any("ProgressBar" in str(c._target_) for c in cfg.callbacks.values() if c) and sys.stdout.isatty()
    return Options(cache, cfg.engine, cfg.cache_dtype, shown)


def build_trainer(cfg: DictConfig, options: dict[str, Any], module: TransferModule) -> L.Trainer:
    """Lightning's Trainer with the learner's own callbacks and those of the configuration."""
    watchers = [
        Interrupt(),
        Phases(cfg.seed),
        Report(every=options["log_every_n_steps"]),
        *(w for w in _each(cfg.callbacks) if sys.stdout.isatty() or not isinstance(w, ProgressBar)),  # nobody looks
    ]
    for watcher in watchers:
        if isinstance(watcher, Forgetting) and module.backbone.gentle and module.plan.moves:
            watcher.remember(module.backbone)
    # what the group leaves out Lightning would put back
    options["enable_checkpointing"] = any(isinstance(w, ModelCheckpoint) for w in watchers)
    options["enable_progress_bar"] = any(isinstance(w, ProgressBar) for w in watchers)
    with refusing("trainer"):
        trainer = L.Trainer(**options, callbacks=watchers, logger=_each(cfg.logger), default_root_dir=cfg.run_dir)
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        name = type(trainer.strategy).__name__
        raise UserError(f"trainer.strategy={cfg.trainer.strategy}: stages cannot thaw under {name}; take auto or ddp")
    return trainer


@contextmanager
def refusing(group: str) -> Iterator[None]:
    """What a constructor says of its arguments, as a UserError that names their group."""
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, ArithmeticError, MisconfigurationException, InstantiationException) as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        raise UserError(f"{group}: {' '.join(str(cause).split())}") from error


def _made(cfg: DictConfig, group: str, *facts: Any) -> Any:
    """What a group's target makes, given the facts that its constructor still misses."""
    with refusing(group):
        made = instantiate(cfg[group])
        return made(*facts) if facts else made


def _each(group: DictConfig) -> list[Any]:
    return [instantiate(member) for member in group.values() if member is not None]
