"""A finished run's network on its own data, with its own weights or others."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tl_lightning.backbones.norms import recalibrate
from tl_lightning.batch import Batch, Inputs
from tl_lightning.build import made
from tl_lightning.config.settings import Settings, settings_of
from tl_lightning.data.datamodule import LabelledData
from tl_lightning.data.samples import Samples
from tl_lightning.data.splits import SPLITS, repeating
from tl_lightning.errors import UserError
from tl_lightning.jobs.predict import Predictor, outputs_of, reader_of
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import Model, load_model, load_state

log = logging.getLogger(__name__)

_CALIBRATION = 512  # training samples that statistics are taken from anew, each of thousands of pixels


@dataclass(frozen=True)
class Outputs:
    """What a network says of N samples: `values` (N, C), beside their names, labels, and `targets` (N,) or (N, C)."""

    names: list[str]
    labels: list[str]
    values: Tensor
    targets: Tensor

    @classmethod
    def of(cls, samples: Samples, split: str, values: Tensor) -> Outputs:
        """Outputs (N, C) for the usable samples of a split, in their order."""
        items = samples.used(split)
        return cls([i.path for i in items], [i.label for i in items], values, torch.from_numpy(samples.targets(split)))


@dataclass(frozen=True)
class Judge:
    """A finished run's model and data. `known`: outputs (N, C) of splits that have been gone through already."""

    model: Model
    data: LabelledData
    settings: Settings
    known: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    _calibration: list[Inputs] = field(default_factory=list, repr=False)  # loaded once, used for every set of weights

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], anew: bool) -> None:
        """Put weights in; `anew`: BatchNorm's statistics are taken from training samples."""
        load_state(state, self.model.backbone.net, self.model.head)
        if anew:
            recalibrate(self.model.network, self._training_inputs())

    @torch.no_grad()
    def accuracy(self) -> float:
        """How right the answers for the validation samples are, on average: the higher the better."""
        right = [self.data.task.right(outputs, batch.targets) for outputs, batch in self._answered("val")]
        return float(torch.cat(right).mean())

    @torch.no_grad()
    def outputs(self, split: str, tta: str = "") -> Outputs:
        """What the network says of a split's samples, in their order; `tta`: on average over views of them.

        Raises UserError if the split is empty.
        """
        samples = self.data.samples
        if not samples.size(split):
            there = [name for name in SPLITS if samples.size(name)]
            raise UserError(
                f"there are no {split} {samples.noun} to evaluate on: take split={' or '.join(there)}, or name others "
                "by data.root= (of texts data.file=)"
            )
        if split in self.known and not tta:
            return Outputs.of(samples, split, self.known[split])
        found = torch.zeros(samples.size(split), len(self.data.task.outputs))
        for outputs, batch in self._answered(split, tta):
            found[batch.index] = outputs
        return Outputs.of(samples, split, found)

    def _answered(self, split: str, tta: str = "") -> Iterator[tuple[Tensor, Batch]]:
        """Outputs (N, C), the mean over the views of `tta`, and the batch that they are for."""
        predictor = Predictor(self.model, "eager", self.data.samples.size(split), tta)
        try:
            for batch in self.data.eval_dataloader(split):
                yield predictor(batch.inputs)[1], batch
        finally:
            predictor.close()

    def raw_inputs(self, split: str, places: Sequence[int], size: int = 64, transform: Any = None) -> Iterator[Inputs]:
        """(N, ...) at these places of a split, up to `size` at once, not normalised; `transform`: evaluation's."""
        dataset = self.data.dataset(split, transform or self.data.eval_transform)
        for start in range(0, len(places), size):
            yield self.data.stack([dataset[int(i), 0][0] for i in places[start : start + size]])

    def _training_inputs(self) -> Iterator[Inputs]:
        """Normalised training samples, up to 512 of them, in batches."""
        if not self._calibration:
            dataset = self.data.dataset("train", self.data.eval_transform)
            picked = np.random.default_rng(0).permutation(len(dataset))[:_CALIBRATION]
            self._calibration.extend(self.raw_inputs("train", picked.tolist()))
        for inputs in self._calibration:
            yield self.data.input.normalise(inputs)


def judge(run: Path, allow: Sequence[str] = (), model: Model | None = None, given: LabelledData | None = None) -> Judge:
    """The model and the data of a finished run, those data that were `given` as an object.

    Raises UserError if there is no such run, or its data are gone.
    """
    folder = RunFolder(run)
    model = model or load_model(run, allow)
    settings = settings_of(folder.config(), tuple(allow))
    if given is not None:
        return Judge(model, given, settings)
    if not isinstance(settings.data, dict):
        raise UserError(
            f"{run} was trained on data that were given as an object, which no file describes: evaluate it where it "
            "was trained"
        )
    if not folder.splits_file.is_file():
        raise UserError(
            f"{run} keeps no samples, as what add_class writes: judge it by those of another folder (tl evaluate "
            "data.root=...)"
        )
    settings = replace(settings, data=repeating(settings.data, folder.splits_file))
    try:
        data = made(settings, "data", model.backbone.input, made(settings, "task"))
    except UserError as error:
        raise UserError(f"the samples of {run} cannot be had, which this needs: {error}") from error
    return Judge(model, data, settings)


def judged_elsewhere(
    run: Path, where: Path, model: Model, tta: str = "", allow: Sequence[str] = ()
) -> tuple[Samples, Outputs]:
    """The labelled samples of another folder, or table, in one split ("test"), and what a run's model says of them.

    Raises UserError for labels that the run does not know, and for what holds no samples.
    """
    settings = settings_of(RunFolder(run).config(), tuple(allow))
    options = settings.data if isinstance(settings.data, dict) else {}
    samples: Samples = reader_of(model).labelled(where, made(settings, "task"), model.task, options)
    known = set(model.task.outputs)
    labels = {name for item in samples.used("test") for name in model.task.members(item.label)}
    if strange := sorted(labels - known):
        raise UserError(
            f"{where} holds {', '.join(strange[:5])}, which {run} does not know: it tells apart "
            f"{', '.join(model.task.outputs[:20])}"
        )
    values, errors = outputs_of(model, [sample for sample, _ in samples.split("test")], tta)
    if errors:
        used = [i.path for i in samples.used("test")]
        for said in errors.values():
            log.warning(f"unreadable: {said}")
        gone = {used[place] for place in errors}
        samples = replace(samples, items=tuple(i for i in samples.items if i.path not in gone))
    return samples, Outputs.of(samples, "test", values)
