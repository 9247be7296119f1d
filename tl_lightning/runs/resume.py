"""A stopped run, taken up where it left off."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tl_lightning import targets
from tl_lightning.data.splits import repeating
from tl_lightning.errors import UserError
from tl_lightning.files import atomically
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.sweep_folder import STEERING

log = logging.getLogger(__name__)

# What may change in the middle of a run. All else shapes its schedule, its data or its optimizer's state.
_FREE = (
    "trainer.max_epochs",
    "trainer.accelerator",
    "trainer.precision",
    "trainer.compile",
    "trainer.channels_last",
    "backbone.weights",
    "data.root",
    "data.file",
    "data.shards",
    "data.workers",
    "callbacks.early_stopping",
    "callbacks.early_stopping.patience",
    "callbacks.progress",
    "engine",
    "report",
)
_OURS = ("resume", "debug", "allow", "run_dir")  # of this command line, not of the run


@dataclass(frozen=True)
class Progress:
    """How far a checkpoint's run had come."""

    checkpoint: Path
    epochs: int
    steps: int


def resumed(folder: RunFolder, values: Mapping[str, Any], words: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The run's own values with this command line's on top, and the newest checkpoint that can be read.

    `values` is what this command line composes, `words` are its arguments. Raises UserError if the folder cannot
    be resumed, or if something else than the epochs and the machine is to change.
    """
    saved = folder.config()
    refuse_outside(folder)
    steered = {name: spec for name, spec in (values.get("callbacks") or {}).items() if name in STEERING}
    saved["callbacks"] = {**_unsteered(saved.get("callbacks") or {}), **steered}
    patience = _patience(saved)
    saved["logger"] = _loggers(saved.get("logger") or {}, values.get("logger") or {})
    if any(targets.sends(spec) for spec in (values.get("logger") or {}).values()):
        words = [word for word in words if not word.lstrip("+~").startswith("logger")]
    take_over(saved, values, words, _FREE)
    saved["resume"] = str(folder.path)
    saved["data"] = repeating(saved["data"], folder.splits_file)
    done = newest(folder)
    _refuse_finished(folder, saved, done, patience)
    _forget(folder.history_file, done)
    log.info(f"resuming  {folder.path} after {done.epochs} epochs")
    return saved, str(done.checkpoint)


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
            if not isinstance(into.get(group), dict):
                raise UserError(f"{key}: the run that is resumed has no {group}")
            into, source = into[group], source.get(group) or {}
        into[name] = source.get(name)


def check(folder: RunFolder) -> None:
    """Raise UserError unless the folder holds what resuming needs."""
    for needed in (folder.config_file, folder.splits_file):
        if not needed.is_file():
            raise UserError(
                f"resume={folder.path} cannot be resumed: {needed.relative_to(folder.path)} is missing there"
            )


def refuse_outside(folder: RunFolder) -> None:
    """Raise UserError if something would be written beyond the folder: by a path in its values, or by a link in it."""
    values = folder.config(here=".")
    values["callbacks"] = _unsteered(values.get("callbacks") or {})
    values["logger"] = {name: spec for name, spec in (values.get("logger") or {}).items() if not targets.sends(spec)}
    for key, text in (found for group in ("callbacks", "logger") for found in _texts(values.get(group), group)):
        if Path(text).is_absolute() or ".." in Path(text).parts:
            raise UserError(f"{folder.config_file}: {key}={text} leads out of the run's folder")
    folder.refuse_links_out()


def _loggers(saved: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The run's own loggers that write into its folder, and those that this command line names.

    Others send what they are told elsewhere, which a folder that may come from a stranger is not to decide.
    """
    kept = {name: spec for name, spec in saved.items() if not targets.sends(spec)}
    named = {name: spec for name, spec in told.items() if targets.sends(spec)}
    if left := sorted(saved.keys() - kept.keys() - named.keys()):
        log.warning(f"logger    {', '.join(left)}: left out, say logger={left[0]} to go on there")
    return {**kept, **named}


def _unsteered(callbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are the run's own: what a sweep did in its middle is not done again."""
    return {name: spec for name, spec in callbacks.items() if name not in STEERING}


def _texts(node: Any, key: str) -> list[tuple[str, str]]:
    """Every text in plain values, with its key."""
    if isinstance(node, Mapping):
        return [found for name, value in node.items() for found in _texts(value, f"{key}.{name}")]
    if isinstance(node, list):
        return [found for value in node for found in _texts(value, key)]
    return [(key, node)] if isinstance(node, str) else []


def newest(folder: RunFolder) -> Progress:
    """The newest checkpoint that can be read, and how far it had come. Raises UserError if there is none."""
    faults = []
    for path in folder.checkpoints:
        if not path.is_file():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            epochs = int(state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
            found = Progress(path, epochs, int(state["global_step"]))
        except Exception:  # a damaged zip or pickle raises whatever it likes
            faults.append(f"{path.name} cannot be read")
            continue
        if faults:
            log.warning(f"{folder.path}: {faults[0]}: {path.name}, the one before, is taken")
        return found
    name = folder.last_checkpoint.relative_to(folder.path)
    missing = f"{name} is missing there"
    if folder.metrics_file.is_file():
        missing += ", as of runs without epochs (strategy=linear_probe), which are finished"
    raise UserError(f"resume={folder.path} cannot be resumed: {'; '.join(faults) or missing}")


def _refuse_finished(folder: RunFolder, saved: Mapping[str, Any], done: Progress, patience: int | None) -> None:
    """Raise UserError where nothing is left to do: no epoch, and no model or scores to be written."""
    wanted = saved["trainer"]["max_epochs"]
    written = all(file.is_file() for file in (folder.metrics_file, folder.model_file, folder.weights_file))
    if not written:
        return
    metrics = folder.metrics()
    if done.epochs >= wanted and metrics.get("epochs", 0) >= done.epochs:
        raise UserError(
            f"resume={folder.path} has trained its {done.epochs} epochs: raise trainer.max_epochs above {done.epochs} "
            "to go on"
        )
    now, ended = _patience(saved), metrics.get("ended")
    if (
        ended
        and metrics.get("ended_by", "early_stopping") == "early_stopping"
        and metrics.get("epochs") == done.epochs
        and now is not None
        and patience is not None
        and now <= patience
    ):
        raise UserError(
            f"resume={folder.path} was ended after {done.epochs} epochs by {ended}: to go on raise "
            f"callbacks.early_stopping.patience above {patience}, or switch it off by callbacks.early_stopping=null"
        )


def _patience(saved: Mapping[str, Any]) -> int | None:
    stopping = (saved.get("callbacks") or {}).get("early_stopping")
    return stopping.get("patience") if isinstance(stopping, Mapping) else None


def _forget(path: Path, done: Progress) -> None:
    """Take the rows of epochs that will be trained again out of metrics.csv: they came after the checkpoint.

    Rates stand at the number of steps before theirs, and name no epoch. A row that was cut short by a kill goes, too.
    """
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, names = list(reader), list(reader.fieldnames or ())
    kept = [r for r in rows if None not in r.values() and _before(r, done)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(kept)
    atomically(path, lambda draft: draft.write_text(text.getvalue(), encoding="utf-8", newline=""))


def _before(row: Mapping[str, str], done: Progress) -> bool:
    return int(row["epoch"]) < done.epochs if row.get("epoch") else int(row.get("step") or 0) < done.steps
