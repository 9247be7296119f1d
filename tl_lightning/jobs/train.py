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

from tl_lightning import fully_sharded, machine
from tl_lightning.backbones import low_rank
from tl_lightning.backbones.taps import read_last_stage
from tl_lightning.build import Setup, build
from tl_lightning.callbacks.collecting import Collect
from tl_lightning.config.settings import Settings, settings_of
from tl_lightning.data import splits
from tl_lightning.features.facts import source_probabilities
from tl_lightning.heads import solve
from tl_lightning.jobs import announce, run_numbers, scoring, trials
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
        _begin(folder, settings, setup)
    loggers = setup.trainer.loggers if setup.trainer.is_global_zero else []
    with writers.aborting(loggers), following(folder.path, allow=settings.allow), shared_threads(setup.trainer):
        loaders = _prepare(setup, checkpoint)
        plain = fully_sharded.plain_copy(setup.module, setup.trainer)
        learns = bool(setup.module.plan.phases)
        if learns and setup.module.plan.solve and checkpoint is None:
            scoring.keep_start(setup, loaders)
        seconds = fit(setup.trainer, setup.module, loaders, folder, checkpoint) if learns else 0.0
        collect = Collect(every=math.ceil(setup.data.samples.size("val") / EMBEDDED))
        before = run_numbers.seconds_before(setup.trainer)
        metrics: dict[str, Any] = {
            **scoring.final_scores(setup, loaders, folder, collect),
            "seconds/fit": before + seconds,
            "seconds/total": before + time.perf_counter() - started,
            **scoring.without_copies(setup, collect),
            **run_numbers.facts(setup),
            **run_numbers.memory(setup),
        }
        metrics |= announce.why_ended(setup.trainer)
        module = fully_sharded.gathered(setup.module, plain)
        module.overviews = setup.module.overviews
        setup = replace(setup, module=module)
    if setup.trainer.is_global_zero:
        _end(folder, settings, setup, metrics, collect)
    return metrics


def _begin(folder: RunFolder, settings: Settings, setup: Setup) -> None:
    """Write and say what is going to be trained."""
    _write_start(folder, settings, setup)
    announce.show_advice(folder, setup)
    announce.introduce(settings, setup)
    writers.begin(setup.trainer.loggers, _without_objects(settings.plain))


def _end(folder: RunFolder, settings: Settings, setup: Setup, metrics: dict[str, Any], collect: Collect) -> None:
    """Write and say what has come of it."""
    _write_model(folder, settings, setup)
    folder.write_json(folder.metrics_file, metrics)
    folder.write_json(folder.overview_file, {k: v.tolist() for k, v in setup.module.overviews.items()})
    if settings.report:
        end_report(folder, settings, setup, collect, settings.allow)
    announce.close_loggers(settings, setup, metrics, folder)
    announce.conclude(folder, setup.module.task, metrics, setup.module.backbone.reader is not None)


def follow(folder: RunFolder, allow: tuple[str, ...]) -> None:
    """Take part in a run as one more rank."""
    train(settings_of(folder.config(), allow))


def _write_start(folder: RunFolder, settings: Settings, setup: Setup) -> None:
    """config.yaml and splits.csv: enough to repeat or resume the run, also after its folder has moved."""
    values = _without_objects(settings.plain)
    if isinstance(values["data"], dict):
        values["data"] |= setup.data.described_as
        for key, where in setup.data.samples.lies_at().items():  # wherever the run is resumed from
            if values["data"].get(key) is not None:
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
        features = setup.frozen.features(device, module.backbone)
        solution = data.task.solve(features, targets, last, data.samples.weights_of("train"))
        solve.install(module.head, solution)
        how = f", then {solution.steps} steps of L-BFGS" if solution.steps else ""
        log.info(f"head      solved: {solution.quality}{how}; {time.perf_counter() - began:.1f} s")
    return loaders
