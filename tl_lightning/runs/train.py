"""The main job: from a configuration to a trained, inspectable, reusable model in a run's folder."""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig

from tl_lightning.runs import record
from tl_lightning.runs.build import Parts, build
from tl_lightning.runs.ranks import following
from tl_lightning.runs.resume import resumed

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> dict[str, Any]:
    """Build, fit, score, write; gives the contents of metrics.json.

    Raises UserError on bad input, KeyboardInterrupt when stopped by hand.
    """
    started = time.perf_counter()
    _quiet()
    checkpoint = None
    if cfg.resume:
        cfg, checkpoint = resumed(cfg, HydraConfig.get().overrides.task if HydraConfig.initialized() else [])
    run = Path(cfg.run_dir)
    parts = build(cfg)
    if parts.trainer.is_global_zero:
        record.write_start(run, cfg, parts.data.folder)
        _introduce(cfg, parts)
    with following(run):
        seconds = {"seconds/fit": _fit(parts, run, checkpoint)}
        metrics = {**_scores(parts), **seconds, "seconds/total": time.perf_counter() - started, **_facts(parts)}
    if parts.trainer.is_global_zero:
        record.write_model(run, parts.module, parts.strategy, cfg)
        record.write_json(run / "metrics.json", metrics)
        _log_hparams(cfg, parts, metrics)
        _conclude(run, metrics)
    return metrics


def _fit(parts: Parts, run: Path, checkpoint: str | None) -> float:
    """Train; gives the seconds it took."""
    started = time.perf_counter()
    try:
        parts.trainer.fit(parts.module, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as stop:  # Lightning's answer to Ctrl-C
        kept = (run / "checkpoints" / "last.ckpt").is_file()
        way = f"go on with: python train.py resume={run}" if kept else "no epoch was finished to go on from"
        raise KeyboardInterrupt(f"stopped by hand; {way}") from stop  # an interrupt ends a sweep, too
    return time.perf_counter() - started


def _scores(parts: Parts) -> dict[str, float]:
    """Scores of the last epoch, then of the best weights, which stay loaded, on val and (if there is one) test."""
    trainer, module = parts.trainer, parts.module
    seen = {k: float(v) for k, v in trainer.callback_metrics.items()}
    last = {f"final/{k}": seen[f"val/{k}"] for k in ("accuracy", "macro_f1", "loss") if f"val/{k}" in seen}
    epochs, best_epoch = trainer.current_epoch, trainer.current_epoch - 1
    keeper = trainer.checkpoint_callback
    if isinstance(keeper, ModelCheckpoint) and keeper.best_model_path:
        best = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(best["state_dict"])
        best_epoch = int(best["epoch"])
    if trainer.progress_bar_callback:
        trainer.progress_bar_callback.disable()
    loggers, trainer.loggers = trainer.loggers, []  # no epoch: it would be one more point on the curves
    scores = dict(trainer.validate(module, datamodule=parts.data, verbose=False)[0])
    trainer.loggers = loggers
    if parts.data.has_test:
        scores |= trainer.test(module, datamodule=parts.data, verbose=False)[0]
    return {k: float(v) for k, v in scores.items()} | last | {"best/epoch": best_epoch, "epochs": epochs}


def _facts(parts: Parts) -> dict[str, Any]:
    total, trainable = parts.module.sizes()
    return {
        "params/total": total,
        "params/trainable": trainable,
        "classes": list(parts.module.classes),
        "skipped_files": len(parts.data.folder.skipped),
    }


def _quiet() -> None:
    """Only what concerns the user reaches the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for noise in (
        "does not have many workers",  # the loader knows the cores at hand
        "LeafSpec",
        "Checkpoint directory .* exists and is not empty",  # a resumed run's own
        "is smaller than the logging interval",  # epochs are logged whatever their length
        "Glyph .* missing",  # class names in scripts that matplotlib's font has not
    ):
        warnings.filterwarnings("ignore", message=f".*{noise}.*")


def _introduce(cfg: DictConfig, parts: Parts) -> None:
    folder, backbone = parts.data.folder, parts.module.backbone
    counts = ", ".join(f"{sum(folder.counts(s))} {s}" for s in ("train", "val", "test") if any(folder.counts(s)))
    skipped = f", {len(folder.skipped)} unreadable skipped" if folder.skipped else ""
    log.info(f"data      {folder.root}: {len(folder.classes)} classes, {counts}{skipped}")
    weights = f"weights {cfg.backbone.weights}" if backbone.pretrained else "random weights: nothing is transferred"
    train_size, eval_size = backbone.input.size, backbone.input.eval_size
    pixels = f"{train_size} px" + (f", evaluated at {eval_size}" if eval_size != train_size else "")
    log.info(f"backbone  {cfg.backbone.name}, {weights}, {pixels}")
    log.info(f"strategy  {parts.strategy}")
    if not backbone.pretrained and not all(parts.module.plan.learns_ever(s) for s in backbone.stage_names):
        log.warning("frozen stages keep their random weights: strategy=finetune_all trains them all")
    log.info(f"run       {cfg.run_dir}")


def _conclude(run: Path, metrics: dict[str, Any]) -> None:
    for split in ("val", "test"):
        if f"{split}/accuracy" in metrics:
            accuracy, f1 = metrics[f"{split}/accuracy"], metrics[f"{split}/macro_f1"]
            log.info(
                f"{split:<9} accuracy {accuracy:.4f}  macro-F1 {f1:.4f}  (weights of epoch {metrics['best/epoch']})"
            )
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
