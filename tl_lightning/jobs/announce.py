"""What a run says of itself at its beginning and its end."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import lightning as L
import torch

from tl_lightning.backbones.licences import forbids_commerce
from tl_lightning.build import Setup
from tl_lightning.callbacks.phases import PhasedEarlyStopping
from tl_lightning.callbacks.steering import Pruning, StopAfter
from tl_lightning.config.settings import Settings
from tl_lightning.data.datamodule import LabelledData
from tl_lightning.reports import writers
from tl_lightning.reports.advice import taps_figure
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.sweep_folder import SweepFolder
from tl_lightning.tasks.task import Task

log = logging.getLogger(__name__)

_ENDS = {PhasedEarlyStopping: "early_stopping", Pruning: "pruning", StopAfter: "until"}
# words that choose nothing, or something that others say
_PLACES = frozenset(
    ("data", "data.root", "data.file", "data.shards", "run_dir", "resume", "sweep", "hparams_search", "report")
)


def introduce(settings: Settings, setup: Setup) -> None:
    """Data, network, strategy and machine, a line each, with whatever is odd about them."""
    backbone, plan = setup.module.backbone, setup.module.plan
    _introduce_data(setup.data)
    name = named(settings.backbone)
    known = f"weights {weights_of(settings.backbone)}"
    weights = known if backbone.pretrained else "random weights: nothing is transferred"
    if backbone.pretrained and not backbone.small_rates:
        weights += " (drawn images; where ImageNet weights may be had, they know photographs better)"
    log.info(f"backbone  {name}, {weights}, {backbone.input}")
    if forbids_commerce(backbone.licence):
        log.warning(f"licence   {backbone.licence}: these weights, and what is trained from them, are not for commerce")
    log.info(f"strategy  {setup.strategy}")
    if remark := setup.data.remark():
        log.info(f"pixels    {remark}")
    waiting, number = os.environ.get("OMP_WAIT_POLICY", "their own").lower(), torch.get_num_threads()
    threads = f"{number} thread" if number == 1 else f"{number} threads"
    log.info(f"machine   {setup.trainer.strategy.root_device}, {threads} ({waiting} waiting)")
    if not backbone.small_rates and not all(plan.learns_ever(s) for s in backbone.stage_names):
        kept = "what drawn images taught them" if backbone.pretrained else "their random weights"
        log.warning(f"frozen stages keep {kept}: strategy=finetune_all trains them all")
    log.info(f"run       {settings.run_dir}")


def _introduce_data(data: LabelledData) -> None:
    samples, task = data.samples, data.task
    counts = ", ".join(f"{samples.size(s)} {s}" for s in ("train", "val", "test") if samples.size(s))
    skipped = f", {len(samples.skipped)} unusable skipped" if samples.skipped else ""
    log.info(f"data      {samples.root}: {len(task.outputs)} {task.noun}, {counts}{skipped}")
    counted = [f"{name} {n}" for name, n in zip(task.outputs, samples.counts("train"), strict=True)]
    more = " ..." if len(counted) > 10 else ""
    log.info(f"{task.noun:<9} {', '.join(counted[:10])}{more}")
    if unseen := [name for name, n in zip(task.outputs, samples.counts("val"), strict=True) if n == 0]:
        log.warning(f"no validation {samples.noun} of class {', '.join(unseen[:10])}: its scores are left out")
    alike = Counter(name.casefold() for name in task.outputs)
    if spelt := [name for name in task.outputs if alike[name.casefold()] > 1]:
        log.warning(f"{task.noun} that differ in capitals alone: {', '.join(spelt[:10])}; are they the same?")


def show_advice(folder: RunFolder, setup: Setup) -> None:
    """What an advised strategy rests on, as numbers and as a picture."""
    if setup.evidence is None:
        return
    folder.write_json(folder.advice_file, asdict(setup.evidence))
    figure = taps_figure(setup.evidence)
    figure.savefig(folder.advice_picture)
    writers.add_figure(setup.trainer.loggers, "advice/stages", figure)


def why_ended(trainer: L.Trainer) -> dict[str, str]:
    """Why a run ended before its last epoch, for people, and by what kind of callback; nothing if it did not."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # not declared
        kind, ended = _ENDS.get(type(callback)), getattr(callback, "ended", "")
        if kind and ended:
            return {"ended": ended, "ended_by": kind}
    return {}


def _shown(task: Task, metrics: Mapping[str, Any], prefix: str) -> list[str]:
    """The scores that people are shown, of those that are there under a prefix."""
    return [
        f"{name} {metrics[key]:.4f}" for score, name in task.shown.items() if (key := f"{prefix}/{score}") in metrics
    ]


def conclude(folder: RunFolder, task: Task, metrics: Mapping[str, Any], reads_all_stages: bool = False) -> None:
    """Why it ended early, the scores of the best weights, and where all of it lies."""
    if ended := metrics.get("ended"):
        log.info(f"stopped   after {metrics['epochs']} epochs by {ended}")
    for split in ("val", "test"):
        shown = _shown(task, metrics, split)
        if shown:
            which = f"weights of epoch {metrics['best/epoch']}" if metrics["epochs"] else "solved, no epochs"
            which = "the exact head, before any epoch" if metrics.get("best/epoch") == -1 else which
            log.info(f"{split:<9} {'  '.join(shown)}  ({which})")
        if clean := _shown(task, metrics, f"{split}/without_copies"):
            number = metrics[f"{split}/copies"]
            log.info(f"{split:<9} {'  '.join(clean)}  (without the {number} copies of what was trained on)")
    if reads_all_stages:
        log.info("load      tl_lightning.load(run): its head reads all stages, which plain torchvision does not give")
    if folder.tensorboard.is_dir():
        log.info(f"look with tensorboard --logdir {folder.path}")
    log.info(str(folder.path))


def close_loggers(settings: Settings, setup: Setup, metrics: Mapping[str, Any], folder: RunFolder) -> None:
    """The choices of this run beside its scores, its model and its report.

    There is a column for each word that it was told, or in which the jobs of its sweep differ.

    TensorBoard's HPARAMS page shows the first five, by name, and the others when they are asked for.
    """
    name = named(settings.backbone)
    chosen = {
        "backbone": name if setup.module.backbone.pretrained else f"{name}, random weights",
        "lr": settings.optimizer.get("lr", "") if isinstance(settings.optimizer, Mapping) else "",
        "seed": settings.seed,
        "strategy": str(setup.strategy),
    }
    told = dict(word.lstrip("+").partition("=")[::2] for word in folder.words() if "=" in word)
    swept = SweepFolder(folder.path.parent).swept()
    shown = told.keys() - _PLACES if swept is None else told.keys() & set(swept)
    chosen = {**{name: value for name, value in told.items() if name in shown}, **chosen}
    keys = [f"{split}/{score}" for split in ("val", "test") for score in setup.module.task.shown]
    scores = {f"score/{key.replace('/', '_')}": metrics[key] for key in keys if key in metrics}
    files = (folder.weights_file, folder.model_file, folder.report)
    writers.close(setup.trainer.loggers, chosen, scores, files)


def named(backbone: Any) -> str:
    """A backbone's name for people."""
    return (
        str(backbone.get("name") or backbone["_target_"])
        if isinstance(backbone, Mapping)
        else type(backbone.net).__name__
    )


def weights_of(backbone: Any) -> str:
    """Which weights a backbone has, for people."""
    return str(backbone.get("weights", "of its own")) if isinstance(backbone, Mapping) else "of its own"
