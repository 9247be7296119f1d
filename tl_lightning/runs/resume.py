"""A stopped run, taken up where it left off."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from tl_lightning.errors import UserError

log = logging.getLogger(__name__)


def resumed(cfg: DictConfig, overrides: Sequence[str]) -> tuple[DictConfig, str]:
    """The run's own configuration with this command line's single values on top, and its last checkpoint.

    `cfg` is what this command line composes, `overrides` are its arguments. Raises UserError if the folder
    cannot be resumed, or if a group option is given: a run keeps its backbone, strategy and data.
    """
    run = Path(cfg.resume)
    checkpoint = run / "checkpoints" / "last.ckpt"
    for needed in (run / "config.yaml", run / "splits.csv", checkpoint):
        if not needed.is_file():
            raise UserError(f"resume={run} cannot be resumed: {needed.relative_to(run)} is missing there")
    saved = OmegaConf.load(run / "config.yaml")
    assert isinstance(saved, DictConfig)
    for key in (o.lstrip("+~").partition("=")[0] for o in overrides):
        if key in ("resume", "debug"):
            continue
        if OmegaConf.is_dict(cfg.get(key)):
            raise UserError(f"a resumed run keeps its {key}: change single values only, e.g. trainer.max_epochs=20")
        OmegaConf.update(saved, key, OmegaConf.select(cfg, key))
    saved.resume = saved.run_dir = str(run)
    saved.data.splits = str(run / "splits.csv")
    saved.data.max_per_class = None  # the split that is read back is already drawn
    done = _epochs_done(run, checkpoint)
    if done >= saved.trainer.max_epochs:
        raise UserError(f"resume={run} has trained its {done} epochs: raise trainer.max_epochs above {done} to go on")
    log.info(f"resuming  {run} after {done} epochs")
    return saved, str(checkpoint)


def _epochs_done(run: Path, checkpoint: Path) -> int:
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        return int(state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    except Exception as error:  # a damaged zip or pickle raises whatever it likes
        raise UserError(f"resume={run} cannot be resumed: {checkpoint.name} cannot be read ({error})") from error
