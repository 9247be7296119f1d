"""A stopped run, taken up where it left off."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from tl_lightning.errors import UserError

log = logging.getLogger(__name__)

# What may change in the middle of a run. All else shapes its schedule, its data or its optimizer's state.
_FREE = (
    "trainer.max_epochs",
    "trainer.accelerator",
    "trainer.precision",
    "trainer.compile",
    "trainer.channels_last",
    "data.root",
    "data.file",
    "data.workers",
    "callbacks.progress",
    "engine",
)


def resumed(cfg: DictConfig, overrides: Sequence[str]) -> tuple[DictConfig, str]:
    """The run's own configuration with this command line's values on top, and its last checkpoint.

    `cfg` is what this command line composes, `overrides` are its arguments. Raises UserError if the folder cannot
    be resumed, or if something else than the epochs and the machine is to change.
    """
    run = Path(cfg.resume).expanduser()
    check(run)
    saved = OmegaConf.load(run / "config.yaml")
    assert isinstance(saved, DictConfig)
    take_over(saved, cfg, overrides, _FREE)
    saved.resume = saved.run_dir = str(run)
    saved.data.splits = str(run / "splits.csv")
    done, steps = _done(run)
    if done >= saved.trainer.max_epochs:
        raise UserError(f"resume={run} has trained its {done} epochs: raise trainer.max_epochs above {done} to go on")
    _forget(run / "metrics.csv", done, steps)
    log.info(f"resuming  {run} after {done} epochs")
    return saved, str(_checkpoint(run))


def take_over(saved: DictConfig, cfg: DictConfig, overrides: Sequence[str], free: Sequence[str]) -> None:
    """Put what this command line says of the `free` keys into a saved configuration; UserError if it says more."""
    for key in (o.lstrip("+~").partition("=")[0] for o in overrides):
        if key in ("resume", "debug") or key.startswith("hydra."):
            continue
        if key not in free:
            raise UserError(f"a resumed run keeps its {key}: only {', '.join(free)} may change")
        OmegaConf.update(saved, key, OmegaConf.select(cfg, key))


def check(run: Path) -> None:
    """UserError unless the folder holds what resuming needs."""
    for needed in (run / "config.yaml", run / "splits.csv", _checkpoint(run)):
        if not needed.is_file():
            raise UserError(f"resume={run} cannot be resumed: {needed.relative_to(run)} is missing there")


def _checkpoint(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def _forget(path: Path, done: int, steps: int) -> None:
    """Take the rows of epochs that will be trained again out of metrics.csv: they came after the last checkpoint.

    Rates stand at the number of steps before theirs, and name no epoch.
    """
    if not path.is_file():
        return
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows, names = list(reader), list(reader.fieldnames or ())
    kept = [r for r in rows if (int(r["epoch"]) < done if r.get("epoch") else int(r.get("step") or 0) < steps)]
    if len(kept) < len(rows):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(kept)


def _done(run: Path) -> tuple[int, int]:
    """Epochs and steps at the last checkpoint."""
    try:
        state = torch.load(_checkpoint(run), map_location="cpu", weights_only=True)
        return int(state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]), int(state["global_step"])
    except Exception as error:  # a damaged zip or pickle raises whatever it likes
        raise UserError(f"resume={run} cannot be resumed: last.ckpt cannot be read ({error})") from error
