"""The main job: from a configuration to a trained, inspectable, reusable model in a run's folder."""

from __future__ import annotations

import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

from tl_lightning.errors import UserError
from tl_lightning.runs import record
from tl_lightning.runs.build import Parts, build

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> dict[str, Any]:
    """Build, fit, score, write; gives the contents of metrics.json. Raises UserError on bad input."""
    started = time.perf_counter()
    _quiet()
    checkpoint = None
    if cfg.resume:
        cfg, checkpoint = resumed(cfg, _overrides())
    run = Path(cfg.run_dir)
    parts = build(cfg)
    trainer, module = parts.trainer, parts.module
    if trainer.is_global_zero:
        record.write_start(run, cfg, parts.data.folder)
    _introduce(cfg, parts)
    fit_started = time.perf_counter()
    trainer.fit(module, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True)
    fit_seconds = time.perf_counter() - fit_started
    if trainer.interrupted:
        raise UserError(f"stopped by hand; continue with: python train.py resume={run}")
    final = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    scores, best_epoch = score(parts)
    metrics = {
        **scores,
        **{f"final/{k.removeprefix('val/')}": v for k, v in final.items() if k in ("val/accuracy", "val/macro_f1", "val/loss")},
        "best/epoch": best_epoch,
        "epochs": trainer.current_epoch,
        "seconds/fit": round(fit_seconds, 2),
        "seconds/total": round(time.perf_counter() - started, 2),
        "params/total": sum(p.numel() for p in module.parameters()),
        "params/trainable": _ever_trainable(module.owners(), module.plan.learns_ever),
        "classes": list(module.classes),
        "skipped_files": len(parts.data.folder.skipped),
    }
    if trainer.is_global_zero:
        record.write_model(run, module, parts.strategy, cfg)
        record.write_json(run / "metrics.json", metrics)
        _log_hparams(cfg, trainer.loggers, metrics)
        _conclude(run, metrics)
    return metrics


def score(parts: Parts) -> tuple[dict[str, float], int]:
    """Validation (and test) scores of the best weights, which stay loaded, and the epoch that they are from."""
    trainer, module = parts.trainer, parts.module
    best_epoch = trainer.current_epoch - 1
    keeper = next((c for c in trainer.callbacks if isinstance(c, ModelCheckpoint)), None)
    if keeper and keeper.best_model_path:
        best = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(best["state_dict"])
        best_epoch = int(best["epoch"])
    scores = dict(trainer.validate(module, datamodule=parts.data, verbose=False)[0])
    if parts.data.has_test:
        scores |= trainer.test(module, datamodule=parts.data, verbose=False)[0]
    return {k: float(v) for k, v in scores.items()}, best_epoch


def resumed(cfg: DictConfig, overrides: list[str]) -> tuple[DictConfig, str]:
    """The stopped run's own configuration with this command line's values on top, and its last checkpoint."""
    run = Path(cfg.resume)
    checkpoint = run / "checkpoints" / "last.ckpt"
    for needed in (run / "config.yaml", checkpoint, run / "splits.csv"):
        if not needed.is_file():
            raise UserError(f"resume={run} cannot be resumed: {needed.relative_to(run)} is missing there")
    saved = OmegaConf.load(run / "config.yaml")
    assert isinstance(saved, DictConfig)
    for override in overrides:
        key, _, _ = override.partition("=")
        if key in ("resume", "debug"):
            continue
        if OmegaConf.is_dict(cfg.get(key.lstrip("+"))) or "." not in key:
            raise UserError(f"resume keeps the run's own choices: '{override}' cannot be changed, only single values like trainer.max_epochs")
        OmegaConf.update(saved, key, OmegaConf.select(cfg, key))
    saved.run_dir, saved.data.splits = str(run), str(run / "splits.csv")
    saved.data.max_per_class = None  # the split that is read back is already drawn
    try:
        done = int(torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]) + 1
    except Exception as error:  # a damaged zip or pickle raises whatever it likes
        raise UserError(f"resume={run} cannot be resumed: {checkpoint.name} cannot be read ({error})") from error
    if done >= saved.trainer.max_epochs:
        raise UserError(f"resume={run} has trained its {done} epochs already: raise trainer.max_epochs above {done} to go on")
    log.info(f"resuming {run} after epoch {done - 1}")
    return saved, str(checkpoint)


def _overrides() -> list[str]:
    return list(HydraConfig.get().overrides.task)


def _quiet() -> None:
    """Only what concerns the user reaches the terminal."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")


def _introduce(cfg: DictConfig, parts: Parts) -> None:
    folder, backbone = parts.data.folder, parts.module.backbone
    counts = ", ".join(f"{sum(folder.counts(s))} {s}" for s in ("train", "val", "test") if any(folder.counts(s)))
    skipped = f", {len(folder.skipped)} unreadable skipped" if folder.skipped else ""
    log.info(f"data      {folder.root}: {len(folder.classes)} classes, {counts}{skipped}")
    weights = f"weights {cfg.backbone.weights}" if backbone.pretrained else "random weights, so nothing is transferred"
    sizes = f"{backbone.input.size} px" + (f" (evaluation {backbone.input.eval_size})" if backbone.input.eval_size != backbone.input.size else "")
    log.info(f"backbone  {cfg.backbone.name}, {weights}, {sizes}")
    log.info(f"strategy  {parts.strategy}")
    log.info(f"run       {cfg.run_dir}")


def _conclude(run: Path, metrics: dict[str, Any]) -> None:
    for split in ("val", "test"):
        if f"{split}/accuracy" in metrics:
            accuracy, f1 = metrics[f"{split}/accuracy"], metrics[f"{split}/macro_f1"]
            log.info(f"{split:<5} accuracy {accuracy:.4f}  macro-F1 {f1:.4f}  (weights of epoch {metrics['best/epoch']})")
    log.info(f"look inside with: tensorboard --logdir {run}")
    log.info(str(run))


def _ever_trainable(owners: Any, learns_ever: Any) -> int:
    return sum(p.numel() for name, named, _ in owners if learns_ever(name) for _, p in named)


def _log_hparams(cfg: DictConfig, loggers: list[Any], metrics: dict[str, Any]) -> None:
    """The choices of this run beside its scores, for TensorBoard's HPARAMS page."""
    chosen = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(chosen, dict)
    groups = {k: chosen[k] for k in ("backbone", "strategy", "head", "optimizer", "schedule", "augment", "data", "seed")}
    scores = {k: v for k, v in metrics.items() if k in ("val/accuracy", "val/macro_f1", "test/accuracy")}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(json.loads(json.dumps(groups, default=str)), scores)
            logger.save()
