"""What a run's weights are worth on val and test, before training and after it."""

from __future__ import annotations

import logging

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tl_lightning.build import Setup
from tl_lightning.callbacks.checkpoints import BestCheckpoint
from tl_lightning.callbacks.collecting import Collect
from tl_lightning.errors import DivergedError
from tl_lightning.fully_sharded import load_whole_state
from tl_lightning.jobs import run_numbers
from tl_lightning.runs.folder import RunFolder

log = logging.getLogger(__name__)


def without_copies(setup: Setup, collect: Collect) -> dict[str, float]:
    """What is shown of val and test, of those samples of which no copy was trained on; nothing where none was."""
    found: dict[str, float] = {}
    for split, outputs in collect.outputs().items():
        leaked = setup.data.samples.leaked(split)
        if len(leaked) == len(outputs) and leaked.any() and not leaked.all():
            task, clean = setup.module.task, torch.from_numpy(~leaked)
            values = task.scored(outputs[clean], torch.as_tensor(setup.data.samples.targets(split))[clean])
            found |= {f"{split}/without_copies/{name}": values[name] for name in task.shown if name in values}
            found[f"{split}/copies"] = int(leaked.sum())
    return found


def keep_start(setup: Setup, loaders: L.LightningDataModule) -> None:
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


def final_scores(setup: Setup, loaders: L.LightningDataModule, folder: RunFolder, collect: Collect) -> dict[str, float]:
    """Scores of the last epoch, then of the best weights, which stay loaded, on val and (if there is one) test.

    Raises DivergedError where no epoch was kept.
    """
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
        load_whole_state(module, state["state_dict"])
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
