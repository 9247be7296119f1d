"""A further class, or more samples of old ones, for a finished run: without its old samples, and without training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tl_lightning import targets
from tl_lightning.build import made
from tl_lightning.config.settings import settings_of
from tl_lightning.errors import UserError
from tl_lightning.heads.solve import install
from tl_lightning.jobs.feature_index import FeatureIndex
from tl_lightning.jobs.predict import features_of, reader_of
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import Model, state_of, write_model
from tl_lightning.tasks.task import Task

_HELD = 5  # of the new samples every fifth is held back


@dataclass(frozen=True)
class Extended:
    """The new run, and how right it is on samples that it did not learn from: of old classes before and after, of new.

    `old`, `new`: numbers of these samples.
    """

    path: Path
    names: Sequence[str]
    before: float
    after: float
    added: float
    old: int
    new: int

    def __str__(self) -> str:
        what = f"with {', '.join(self.names)}" if self.names else "with more samples"
        return (
            f"{self.path}: {what}; {self.old} validation samples of before: right {self.before:.4f} before, "
            f"{self.after:.4f} after; {self.new} of the new ones, held back: right {self.added:.4f}"
        )


def add_class(
    model: Model, folder: RunFolder, index: FeatureIndex, where: Path, out: Path, allow: Sequence[str] = ()
) -> Extended:
    """A run like this one with an exact head that also knows the labelled samples in `where`, written to `out`.

    The features of before are those that were kept, the network stays as it is. Raises UserError for tasks that are not
    one class for each sample, for heads that are not linear, and for a folder that holds a run.
    """
    new = RunFolder(out)
    new.refuse_run()
    try:
        model.task.class_indices(index.targets)
    except UserError as error:
        raise UserError(f"a class can be added where every sample has one: {folder.path} is asked for more") from error
    settings = settings_of(folder.config(), tuple(allow))
    options = settings.data if isinstance(settings.data, dict) else {}
    samples = reader_of(model).labelled(where, made(settings, "task"), model.task, options)
    labels = [item.label for item in samples.used("test")]
    names = [name for name in dict.fromkeys(labels) if name not in model.task.outputs]
    task = replace(model.task, outputs=(*model.task.outputs, *names))
    found, errors = features_of(model, [samples.sample(item) for item in samples.used("test")])
    known = task.encode([label for place, label in enumerate(labels) if place not in errors])
    held = _held(known)
    train = np.concatenate([index.features, found[~held]]), np.concatenate([index.targets, known[~held]])
    task = task.fitted(train[1], "none", "none")
    head = _head(folder, model, task, allow)
    install(head, task.solve(*train))
    grown = FeatureIndex(*train, np.concatenate([index.val_features, found[held]]),
                         np.concatenate([index.val_targets, known[held]]))  # fmt: skip
    return _written(new, folder, model, head, task, grown, index, names)


def _held(known: np.ndarray) -> np.ndarray:
    """(N,): every fifth sample of each class."""
    held = np.zeros(len(known), bool)
    for k in np.unique(known):
        held[np.flatnonzero(known == k)[_HELD - 1 :: _HELD]] = True
    return held


def _head(folder: RunFolder, model: Model, task: Task, allow: Sequence[str]) -> nn.Module:
    if not isinstance(model.facts["head"], Mapping):
        raise UserError(f"{folder.path} has a head that no file describes: a class cannot be added to it")
    make: Callable[..., nn.Module] = targets.build(model.facts["head"], allow)
    return make(model.backbone.feature_dim, task.start()).eval()


@torch.no_grad()
def _written(
    new: RunFolder,
    folder: RunFolder,
    model: Model,
    head: nn.Module,
    task: Task,
    grown: FeatureIndex,
    index: FeatureIndex,
    names: Sequence[str],
) -> Extended:
    old = len(index.val_targets)
    before = _right(model.task, model.head, index.val_features, index.val_targets)
    now = _right(task, head, grown.val_features, grown.val_targets)
    added = float(now[old:].mean()) if len(now) > old else float("nan")
    found = Extended(new.path, names, float(before.mean()), float(now[:old].mean()), added, old, len(now) - old)
    new.path.mkdir(parents=True, exist_ok=True)
    if folder.library.is_dir():
        shutil.copytree(folder.library, new.library)
    new.write_config({**folder.config(), "run_dir": str(new.path)})
    facts = {**model.facts, "task": task.facts(), "classes": list(task.outputs)}
    write_model(new, state_of(model.backbone.net, head), facts, model.backbone)
    scores = {"val/accuracy": float(now.mean()), "old/before": found.before, "old/after": found.after}
    new.write_json(new.metrics_file, {**scores, "new/accuracy": added, "classes": list(task.outputs), "epochs": 0})
    grown.write(new.features_file)
    return found


def _right(task: Task, head: nn.Module, features: np.ndarray, known: np.ndarray) -> np.ndarray:
    right: np.ndarray = task.right(head(torch.from_numpy(features)), torch.from_numpy(known)).numpy()
    return right
