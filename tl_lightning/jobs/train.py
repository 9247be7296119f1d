"""The main job: from settings to a trained, inspectable, reusable model in a run's folder."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tl_lightning import machine
from tl_lightning.backbones import low_rank
from tl_lightning.backbones.taps import read_last_stage
from tl_lightning.build import Setup, build
from tl_lightning.callbacks.checkpoints import BestCheckpoint
from tl_lightning.callbacks.collecting import Collect
from tl_lightning.config.settings import Settings, settings_of
from tl_lightning.data import splits
from tl_lightning.errors import DivergedError
from tl_lightning.features.facts import source_probabilities
from tl_lightning.heads import solve
from tl_lightning.jobs import announce, run_numbers, trials
from tl_lightning.jobs.end_report import EMBEDDED, end_report
from tl_lightning.jobs.fit import fit, quiet, shared_threads
from tl_lightning.jobs.processes import first_rank, following, refuse_ranks
from tl_lightning.reports import writers
from tl_lightning.runs import model
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.resume import check, resumed
from tl_lightning.transferability.relatedness import relationship

log = logging.getLogger(__name__)


def train(settings: Settings, words: Sequence[str] = ()) -> dict[str, Any]:
    """Build, fit, score, write; gives the contents of metrics.json.

    `words`: the command line, of which a resumed run takes what may change. Raises UserError on bad input, Stopped
    where a signal ended it.
    """
    started = time.perf_counter()
    quiet()
    machine.reset_peak()
    folder, checkpoint = RunFolder(settings.run_dir), None
    if settings.resume:
        folder = RunFolder(Path(settings.resume).expanduser())
        check(folder)
    # before anything of a resumed run is changed
    with folder.claimed(resuming=bool(settings.resume)) if first_rank() else nullcontext():
        if settings.resume:
            values, checkpoint = resumed(folder, settings.plain, words)
            settings = settings_of(values, settings.allow)
        return _train(settings, folder, checkpoint, started)


def _train(settings: Settings, folder: RunFolder, checkpoint: str | None, started: float) -> dict[str, Any]:
    setup = build(settings, partial(trials.attempt, train, settings))
    if (device := setup.trainer.strategy.root_device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    refuse_ranks(setup.trainer.world_size)
    advised = model.described(setup.strategy)
    if isinstance(settings.strategy, Mapping) and settings.strategy["_target_"] != advised["_target_"]:
        settings = replace(settings, strategy=advised)  # ranks and a resumed run follow it without asking
    if setup.trainer.is_global_zero:
        _write_start(folder, settings, setup)
        announce.show_advice(folder, setup)
        announce.introduce(settings, setup)
        writers.begin(setup.trainer.loggers, _without_objects(settings.plain))
    loggers = setup.trainer.loggers if setup.trainer.is_global_zero else []
    with writers.aborting(loggers), following(folder.path, allow=settings.allow), shared_threads(setup.trainer):
        loaders = _prepare(setup, checkpoint)
        learns = bool(setup.module.plan.phases)
        if learns and setup.module.plan.solve and checkpoint is None:
            _keep_start(setup, loaders)
        seconds = fit(setup.trainer, setup.module, loaders, folder, checkpoint) if learns else 0.0
        collect = Collect(every=math.ceil(setup.data.samples.size("val") / EMBEDDED))
        before = run_numbers.seconds_before(setup.trainer)
        metrics: dict[str, Any] = {
            **_scores(setup, loaders, folder, collect),
            "seconds/fit": before + seconds,
            "seconds/total": before + time.perf_counter() - started,
            **run_numbers.facts(setup),
            **run_numbers.memory(setup),
        }
        metrics |= announce.why_ended(setup.trainer)
    if setup.trainer.is_global_zero:
        _write_model(folder, settings, setup)
        folder.write_json(folder.metrics_file, metrics)
        folder.write_json(folder.overview_file, {k: v.tolist() for k, v in setup.module.overviews.items()})
        if settings.report:
            end_report(folder, settings, setup, collect, settings.allow)
        announce.close_loggers(settings, setup, metrics, folder)
        announce.conclude(folder, setup.module.task, metrics, setup.module.backbone.reader is not None)
    return metrics


def follow(folder: RunFolder, allow: tuple[str, ...]) -> None:
    """Take part in a run as one more rank."""
    train(settings_of(folder.config(), allow))


def _write_start(folder: RunFolder, settings: Settings, setup: Setup) -> None:
    """config.yaml and splits.csv: enough to repeat or resume the run, also after its folder has moved."""
    values = _without_objects(settings.plain)
    where = setup.data.samples.root
    for key in ("root", "file"):  # wherever the run is resumed from
        if isinstance(values["data"], dict) and values["data"].get(key) is not None:
            values["data"][key] = str(where.absolute())
    folder.write_config(values)
    if setup.module.backbone.library.save:
        setup.module.backbone.library.save(folder.library)
    splits.write(setup.data.samples.items, folder.splits_file)


def _without_objects(node: Any) -> Any:
    """Plain values; an object from Python leaves its name, which nothing is built from."""
    if isinstance(node, Mapping):
        return {k: _without_objects(v) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [_without_objects(v) for v in node]
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    kind = node if isinstance(node, type) or hasattr(node, "__qualname__") else type(node)
    return f"{kind.__module__}.{kind.__qualname__}"


def _write_model(folder: RunFolder, settings: Settings, setup: Setup) -> None:
    module = setup.module
    net = copy.deepcopy(module.backbone.net)
    low_rank.merge(net)
    facts = {
        "backbone": _without_objects(settings.backbone),
        "task": module.task.facts(),
        "classes": list(module.task.outputs),
        "preprocessing": setup.data.input.facts(),
        "licence": module.backbone.licence,
        "features": module.backbone.feature_dim,
        "stages": module.backbone.stage_names,
        "head": _without_objects(settings.head),
        "strategy": model.described(setup.strategy),
    }
    model.write_model(folder, model.state_of(net, module.head), facts, module.backbone)


def _prepare(setup: Setup, checkpoint: str | None) -> L.LightningDataModule:
    """What lies below the plan's boundary computed once, and the head solved if the plan says so; gives the batches."""
    module, data, trainer = setup.module, setup.data, setup.trainer
    if checkpoint:  # what the stages below the boundary compute is that of the run, whatever the weights file holds now
        module.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    device = trainer.strategy.root_device
    loaders, module.input_stage = setup.frozen.loaders(device, trainer.max_epochs or 1)
    if checkpoint:
        return loaders
    targets = data.samples.targets("train")
    if module.regularizer and module.regularizer.asks_source:
        plain = module.backbone if module.backbone.reader is None else read_last_stage(module.backbone)
        probabilities = source_probabilities(plain, setup.frozen.features(device, plain))
        classes = data.task.class_indices(targets)
        module.regularizer.tell(relationship(probabilities, classes, len(data.task.outputs)))
    if module.plan.solve:
        began = time.perf_counter()
        last = None if module.backbone.reader is None else module.backbone.widths()[-1]
        solution = data.task.solve(setup.frozen.features(device, module.backbone), targets, last)
        solve.install(module.head, solution)
        how = f", then {solution.steps} steps of L-BFGS" if solution.steps else ""
        log.info(f"head      solved: {solution.quality}{how}; {time.perf_counter() - began:.1f} s")
    return loaders


def _keep_start(setup: Setup, loaders: L.LightningDataModule) -> None:
    """Judge the exact head as an epoch is judged, so that training from it cannot end below it."""
    trainer, keeper = setup.trainer, setup.trainer.checkpoint_callback
    if not isinstance(keeper, BestCheckpoint) or keeper.monitor is None:
        return
    scores = _validated(setup, loaders)
    if keeper.monitor in scores:
        keeper.keep_start(trainer, scores[keeper.monitor])
        if trainer.is_global_zero:
            log.info(f"start     {keeper.monitor} {scores[keeper.monitor]:.4f} by the exact head, before any epoch")


def _validated(setup: Setup, loaders: L.LightningDataModule) -> dict[str, float]:
    """Scores of the weights as they are on val; nothing is logged, it would be one more point on the curves."""
    trainer = setup.trainer
    loggers, trainer.loggers = trainer.loggers, []
    scores = dict(trainer.validate(setup.module, datamodule=loaders, verbose=False)[0])
    trainer.loggers = loggers
    for meter in setup.module.meters("val"):
        if meter is not None:
            meter.reset()  # what it holds was made in inference mode, where training may not go on with it
    return scores


def _scores(setup: Setup, loaders: L.LightningDataModule, folder: RunFolder, collect: Collect) -> dict[str, float]:
    """Scores of the last epoch, then of the best weights, which stay loaded, on val and (if there is one) test."""
    trainer, module = setup.trainer, setup.module
    seen = {k: float(v) for k, v in trainer.callback_metrics.items()} or run_numbers.last_epoch(folder)
    last = {f"final/{k}": seen[f"val/{k}"] for k in (*module.task.shown, "loss") if f"val/{k}" in seen}
    epochs = trainer.current_epoch if module.plan.phases else 0
    best: dict[str, float] = {"best/epoch": epochs - 1} if epochs else {}
    keeper = trainer.checkpoint_callback
    if epochs and isinstance(keeper, BestCheckpoint) and not keeper.best_model_path:
        raise DivergedError(
            "training diverged: in no epoch was the loss finite, so there are no weights to keep; lower optimizer.lr, "
            "or take trainer.precision=32-true"
        )
    if isinstance(keeper, ModelCheckpoint) and keeper.best_model_path:
        state = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
        best = {"best/epoch": int(state["epoch"]) if state["global_step"] else -1}  # -1: the start
    if trainer.progress_bar_callback:
        trainer.progress_bar_callback.disable()
    trainer.callbacks.append(collect)  # type: ignore[attr-defined]  # not declared
    if epochs:
        scores = _validated(setup, loaders)
    else:
        scores = dict(trainer.validate(module, datamodule=loaders, verbose=False)[0])
    if setup.data.has_test:
        scores |= trainer.test(module, datamodule=loaders, verbose=False)[0]
    if not module.plan.phases and isinstance(keeper, ModelCheckpoint):
        trainer.save_checkpoint(folder.best_checkpoint)
    return {k: float(v) for k, v in scores.items()} | last | best | {"epochs": epochs}
