"""A stopped run, taken up where it left off."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tl_lightning.errors import UserError
from tl_lightning.runs.folder import RunFolder

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
_OURS = ("resume", "debug", "allow", "run_dir")  # of this command line, not of the run


def resumed(run: str | Path, values: Mapping[str, Any], words: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The run's own values with this command line's on top, and its last checkpoint.

    `values` is what this command line composes, `words` are its arguments. Raises UserError if the folder cannot
    be resumed, or if something else than the epochs and the machine is to change.
    """
    folder = RunFolder(Path(run).expanduser())
    check(folder)
    saved = folder.config()
    take_over(saved, values, words, _FREE)
    saved["resume"] = str(folder.path)
    saved["data"]["splits"] = str(folder.splits_file)
    done, steps = _done(folder)
    if done >= saved["trainer"]["max_epochs"]:
        raise UserError(
            f"resume={folder.path} has trained its {done} epochs: raise trainer.max_epochs above {done} to go on"
        )
    _forget(folder.history_file, done, steps)
    log.info(f"resuming  {folder.path} after {done} epochs")
    return saved, str(folder.last_checkpoint)


def take_over(saved: dict[str, Any], values: Mapping[str, Any], words: Sequence[str], free: Sequence[str]) -> None:
    """Put what this command line says of the `free` keys into saved values. Raises UserError if it says more."""
    for key in (word.lstrip("+~").partition("=")[0] for word in words):
        if key in _OURS or key.startswith("hydra."):
            continue
        if key not in free:
            raise UserError(f"a resumed run keeps its {key}: only {', '.join(free)} may change")
        *groups, name = key.split(".")
        into, source = saved, dict(values)
        for group in groups:
            into, source = into.setdefault(group, {}), source.get(group) or {}
        into[name] = source.get(name)


def check(folder: RunFolder) -> None:
    """Raise UserError unless the folder holds what resuming needs."""
    for needed in (folder.config_file, folder.splits_file, folder.last_checkpoint):
        if not needed.is_file():
            raise UserError(
                f"resume={folder.path} cannot be resumed: {needed.relative_to(folder.path)} is missing there"
            )


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


def _done(folder: RunFolder) -> tuple[int, int]:
    """Epochs and steps at the last checkpoint. Raises UserError if it cannot be read."""
    try:
        state = torch.load(folder.last_checkpoint, map_location="cpu", weights_only=True)
        return int(state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]), int(state["global_step"])
    except Exception as error:  # a damaged zip or pickle raises whatever it likes
        raise UserError(f"resume={folder.path} cannot be resumed: last.ckpt cannot be read ({error})") from error
