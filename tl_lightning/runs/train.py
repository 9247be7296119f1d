"""The main job: from a configuration to a trained, inspectable, reusable model in a run's folder."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig

from tl_lightning.features import solve
from tl_lightning.features.facts import source_probabilities
from tl_lightning.reports.advice import taps_figure
from tl_lightning.runs import record
from tl_lightning.runs.build import Parts, build
from tl_lightning.runs.ranks import following
from tl_lightning.runs.resume import resumed
from tl_lightning.transferability.evidence import Evidence
from tl_lightning.transferability.ridge import PENALTIES
from tl_lightning.transferability.source import relationship

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> dict[str, Any]:
    """Build, fit, score, write; gives the contents of metrics.json.

    Raises UserError on bad input, KeyboardInterrupt when stopped by hand.
    """
    started = time.perf_counter()
    quiet()
    checkpoint = None
    if cfg.resume:
        cfg, checkpoint = resumed(cfg, HydraConfig.get().overrides.task if HydraConfig.initialized() else [])
    run = Path(cfg.run_dir)
    parts = build(cfg)
    if cfg.strategy._target_ != record.target(parts.strategy):  # advised: ranks and a resumed run follow without asking
        cfg = cfg.copy()
        cfg.strategy = record.described(parts.strategy)
    if parts.trainer.is_global_zero:
        record.write_start(run, cfg, parts.data.folder)
        if parts.evidence:
            _show(run, parts.evidence, parts.trainer)
        _introduce(cfg, parts)
    with following(run), shared_threads(parts.trainer):
        loaders = _prepare(parts, checkpoint)
        learns = bool(parts.module.plan.phases)
        seconds = fit(parts.trainer, parts.module, loaders, run, checkpoint) if learns else 0.0
        metrics = {
            **_scores(parts, loaders),
            "seconds/fit": seconds,
            "seconds/total": time.perf_counter() - started,
            **_facts(parts),
        }
    if parts.trainer.is_global_zero:
        record.write_model(run, parts.module, parts.strategy, cfg)
        record.write_json(run / "metrics.json", metrics)
        _log_hparams(cfg, parts, metrics)
        _conclude(run, metrics)
    return metrics


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


def _prepare(parts: Parts, checkpoint: str | None) -> L.LightningDataModule:
    """What lies below the plan's boundary computed once, and the head solved if the plan says so; gives the batches."""
    module, trainer = parts.module, parts.trainer
    if checkpoint:  # what the stages below the boundary compute is that of the run, whatever the weights file holds now
        module.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    device = trainer.strategy.root_device
    loaders, module.entry = parts.frozen.loaders(device, trainer.max_epochs or 1)
    if module.regularizer and module.regularizer.asks_source and not checkpoint:
        plain = module.backbone.plain() if module.backbone.taps else module.backbone
        probabilities = source_probabilities(plain, parts.frozen.features(device, plain))
        labels = parts.data.folder.labels("train")
        module.regularizer.tell(relationship(probabilities, labels, len(module.classes)))
    if module.plan.solve and not checkpoint:
        began, labels = time.perf_counter(), parts.data.folder.labels("train")
        rows = parts.frozen.features(device, module.backbone)
        solution = solve.solve(rows, labels, len(module.classes), parts.data.emphasis())
        solve.install(module.head, solution)
        log.info(
            f"head      solved: leave-one-out accuracy {solution.accuracy:.4f} (ridge, best of {PENALTIES} "
            f"penalties), then {solution.steps} steps of L-BFGS; {time.perf_counter() - began:.1f} s"
        )
    return loaders


def fit(
    trainer: L.Trainer,
    module: L.LightningModule,
    data: L.LightningDataModule,
    run: Path,
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
        kept = (run / "checkpoints" / "last.ckpt").is_file()
        way = f"go on with: python {script} resume={run}" if kept else "no epoch was finished to go on from"
        raise KeyboardInterrupt(f"stopped by hand; {way}") from stop  # an interrupt ends a sweep, too
    return time.perf_counter() - began


def _scores(parts: Parts, loaders: L.LightningDataModule) -> dict[str, float]:
    """Scores of the last epoch, then of the best weights, which stay loaded, on val and (if there is one) test."""
    trainer, module = parts.trainer, parts.module
    seen = {k: float(v) for k, v in trainer.callback_metrics.items()}
    last = {f"final/{k}": seen[f"val/{k}"] for k in ("accuracy", "macro_f1", "loss") if f"val/{k}" in seen}
    epochs = trainer.current_epoch if module.plan.phases else 0
    best: dict[str, float] = {"best/epoch": epochs - 1} if epochs else {}
    keeper = trainer.checkpoint_callback
    if isinstance(keeper, ModelCheckpoint) and keeper.best_model_path:
        state = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
        best = {"best/epoch": int(state["epoch"])}
    if trainer.progress_bar_callback:
        trainer.progress_bar_callback.disable()
    loggers = trainer.loggers
    if epochs:
        trainer.loggers = []  # no epoch: it would be one more point on the curves
    scores = dict(trainer.validate(module, datamodule=loaders, verbose=False)[0])
    trainer.loggers = loggers
    if parts.data.has_test:
        scores |= trainer.test(module, datamodule=loaders, verbose=False)[0]
    if not module.plan.phases and isinstance(keeper, ModelCheckpoint) and keeper.dirpath:
        trainer.save_checkpoint(Path(keeper.dirpath) / "best.ckpt")
    return {k: float(v) for k, v in scores.items()} | last | best | {"epochs": epochs}


def _facts(parts: Parts) -> dict[str, Any]:
    total, trainable = parts.module.sizes()
    return {
        "params/total": total,
        "params/trainable": trainable,
        "classes": list(parts.module.classes),
        "skipped_files": len(parts.data.folder.skipped),
    }


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


def _introduce(cfg: DictConfig, parts: Parts) -> None:
    folder, backbone = parts.data.folder, parts.module.backbone
    counts = ", ".join(f"{folder.size(s)} {s}" for s in ("train", "val", "test") if folder.size(s))
    skipped = f", {len(folder.skipped)} unusable skipped" if folder.skipped else ""
    log.info(f"data      {folder.root}: {len(folder.classes)} classes, {counts}{skipped}")
    named = [f"{c} {n}" for c, n in zip(folder.classes, folder.counts("train"), strict=True)]
    log.info(f"classes   {', '.join(named[:10])}{' ...' * (len(named) > 10)}")
    if unseen := [c for c, n in zip(folder.classes, folder.counts("val"), strict=True) if n == 0]:
        log.warning(f"no validation {folder.noun} of class {', '.join(unseen[:10])}: its scores are left out")
    alike = Counter(c.casefold() for c in folder.classes)
    if spelt := [c for c in folder.classes if alike[c.casefold()] > 1]:
        log.warning(f"classes that differ in capitals alone: {', '.join(spelt[:10])}; are they the same?")
    weights = f"weights {cfg.backbone.weights}" if backbone.pretrained else "random weights: nothing is transferred"
    if backbone.pretrained and not backbone.gentle:
        weights += " (drawn images; where ImageNet weights may be had, they know photographs better)"
    log.info(f"backbone  {cfg.backbone.name}, {weights}, {backbone.input}")
    log.info(f"strategy  {parts.strategy}")
    waiting, number = os.environ.get("OMP_WAIT_POLICY", "their own").lower(), torch.get_num_threads()
    threads = f"{number} thread{'s' * (number > 1)}"
    log.info(f"machine   {parts.trainer.strategy.root_device}, {threads} ({waiting} waiting)")
    if not backbone.gentle and not all(parts.module.plan.learns_ever(s) for s in backbone.stage_names):
        kept = "what drawn images taught them" if backbone.pretrained else "their random weights"
        log.warning(f"frozen stages keep {kept}: strategy=finetune_all trains them all")
    log.info(f"run       {cfg.run_dir}")


def _show(run: Path, evidence: Evidence, trainer: L.Trainer) -> None:
    """What the advice rests on, as numbers and as a picture."""
    record.write_json(run / "advice.json", asdict(evidence))
    figure = taps_figure(evidence)
    figure.savefig(run / "advice.png")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure("advice/stages", figure)


def _conclude(run: Path, metrics: dict[str, Any]) -> None:
    for split in ("val", "test"):
        if f"{split}/accuracy" in metrics:
            accuracy, f1 = metrics[f"{split}/accuracy"], metrics[f"{split}/macro_f1"]
            which = f"weights of epoch {metrics['best/epoch']}" if metrics["epochs"] else "solved, no epochs"
            log.info(f"{split:<9} accuracy {accuracy:.4f}  macro-F1 {f1:.4f}  ({which})")
    if (run / "tensorboard").is_dir():
        log.info(f"look with tensorboard --logdir {run}")
    log.info(str(run))


def _log_hparams(cfg: DictConfig, parts: Parts, metrics: dict[str, Any]) -> None:
    """The choices of this run beside its scores; TensorBoard's HPARAMS page shows the first five, by name."""
    chosen = {
        "backbone": cfg.backbone.name if parts.module.backbone.pretrained else f"{cfg.backbone.name}, random weights",
        "lr": cfg.optimizer.lr,
        "seed": cfg.seed,
        "strategy": str(parts.strategy),
        "words": HydraConfig.get().job.override_dirname if HydraConfig.initialized() else "",
    }
    named = {"val_accuracy": "val/accuracy", "val_macro_f1": "val/macro_f1", "test_accuracy": "test/accuracy"}
    scores = {f"score/{name}": metrics[key] for name, key in named.items() if key in metrics}
    for logger in parts.trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(chosen, scores)
            logger.save()
