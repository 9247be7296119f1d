"""What a trained model says of new images or texts."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tl_lightning.batch import Inputs, map_tensors
from tl_lightning.data.incoming import Incoming
from tl_lightning.errors import UserError
from tl_lightning.features.engine import Prefix
from tl_lightning.runs.model import Model

# By what a sample is: the module whose `sources(source, column)` names everything in it, whose `batches(sources, input,
# size)` reads them, and whose `labelled(where, make, task, options)` finds samples with labels,
# whose `explain(network, input, inputs, answers, names, folder)` says what answers come from,
# and whose `joined(parts)` makes one batch of several.
_READERS = {"images": "tl_lightning.data.images.image_reading", "texts": "tl_lightning.data.texts.text_reading"}
_MANY = 64
_FIRST = 3  # predictions that are shown in a line
_ON_GPU = 8  # times as many samples at once


@dataclass(frozen=True, repr=False)
class Predictions:
    """What a model says: an answer for each source, and the numbers (N, C) behind it, one for each of `outputs`.

    An answer is a class ("" below its threshold), a list of classes, or a value; the numbers are probabilities, or
    values. `errors`, by place: why a source could not be read; its answer is None, its numbers are NaN.
    """

    sources: Sequence[str]
    answers: Sequence[Any]
    probabilities: np.ndarray
    outputs: Sequence[str]
    errors: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[tuple[str, Any, np.ndarray]]:
        return iter(zip(self.sources, self.answers, self.probabilities, strict=True))

    def __repr__(self) -> str:
        """In a line: how many there are, and the first."""
        first = "; ".join(f"{source}: {answer}" for source, answer, _ in islice(self, _FIRST))
        more = " ..." if len(self) > _FIRST else ""
        return f"<{len(self)} predictions: {first}{more}>"

    def _repr_html_(self) -> str:
        from tl_lightning.reports.html import predictions_table

        return predictions_table(self.sources, self.answers, self.probabilities.max(1).tolist())


@dataclass(frozen=True)
class Answered:
    """A batch, and of those of its samples that could be read features (N, D) and predictions (N, C)."""

    batch: Incoming
    features: np.ndarray | None = None
    predictions: np.ndarray | None = None


def predict(model: Model, source: Any, engine: str = "eager", tta: str = "") -> Predictions:
    """What a model says of whatever `sources` of its kind take: files, folders, arrays, pictures; texts.

    Raises UserError for what is not there or is of another kind, and where nothing can be read.
    """
    named = sources(model, source)
    numbers = np.full((len(named), len(model.task.outputs)), np.nan, np.float32)
    answers: list[Any] = [None] * len(named)
    errors: dict[int, str] = {}
    for found in answered(model, [sample for _, sample in named], engine, tta):
        errors |= found.batch.errors
        if found.predictions is not None:
            numbers[found.batch.places] = found.predictions
            said = model.task.answers(found.predictions, model.calibration.thresholds)
            for place, answer in zip(found.batch.places, said, strict=True):
                answers[place] = answer
    if len(errors) == len(named):
        raise UserError(errors[0])
    return Predictions([name for name, _ in named], answers, numbers, model.task.outputs, errors)


def sources(model: Model, source: Any, column: str | None = None) -> list[tuple[str, Any]]:
    """(name, sample) of everything in `source`, none of it read. Raises UserError for what a model does not take."""
    found: list[tuple[str, Any]] = reader_of(model).sources(source, column)
    return found


def answered(model: Model, samples: Sequence[Any], engine: str = "eager", tta: str = "") -> Iterator[Answered]:
    """Batches of samples in order, with what the model makes of them; `tta`: the mean over views of them."""
    for batch, found in _passed(model, samples, engine, tta):
        if found is None:
            yield Answered(batch)
        else:
            features, outputs = found
            predictions = model.task.predictions(outputs / model.calibration.temperature).numpy()
            yield Answered(batch, features.numpy(), predictions)


def outputs_of(model: Model, samples: Sequence[Any], tta: str = "") -> tuple[Tensor, dict[int, str]]:
    """Outputs (N, C) for those samples that can be read, and why others cannot, by place.

    Raises UserError where nothing can be read.
    """
    (_, outputs), errors = _of_all(model, samples, tta)
    return outputs, errors


def features_of(model: Model, samples: Sequence[Any]) -> tuple[np.ndarray, dict[int, str]]:
    """Features (N, D) of those samples that can be read, and why others cannot, by place.

    Raises UserError where nothing can be read.
    """
    (features, _), errors = _of_all(model, samples, "")
    return features.numpy(), errors


def _of_all(model: Model, samples: Sequence[Any], tta: str) -> tuple[tuple[Tensor, Tensor], dict[int, str]]:
    every: list[tuple[Tensor, Tensor]] = []
    errors: dict[int, str] = {}
    for batch, found in _passed(model, samples, "eager", tta):
        errors.update(batch.errors)
        every += [found] if found else []
    if not every:
        raise UserError(errors[0] if errors else "there are no samples")
    features, outputs = zip(*every, strict=True)
    return (torch.cat(features), torch.cat(outputs)), errors


class Predictor:
    """A model on the device and the engine that are fastest for the `images` to come.

    `at_once`: samples that a batch should have. `tta` "flip" or "crops": the mean over views of each.
    """

    def __init__(self, model: Model, engine: str, images: int, tta: str = "") -> None:
        self.model, backbone = model, model.backbone
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.prefix = Prefix(backbone, len(backbone.stages), engine, self.device, images)
        # of a few, building another engine takes longer
        self._run = self.prefix if images >= _MANY else self.prefix.eager
        self._head, self._normalise = model.head.to(self.device), backbone.input.normaliser()
        self._views: Sequence[Callable[[Any], Any]] = backbone.input.views(tta)
        self.at_once = backbone.input.at_once * (_ON_GPU if self.device.type == "cuda" else 1)

    @torch.no_grad()
    def __call__(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Features (N, D) and outputs (N, C) for samples (N, ...) as their reader gives them."""
        normalised = self._normalise(map_tensors(lambda x: x.to(self.device), inputs))
        features = [self._run(view(normalised)) for view in self._views]
        outputs = torch.stack([self._head(rows).float() for rows in features]).mean(0)
        return features[0].float().cpu(), outputs.cpu()

    def close(self) -> None:
        """Put the network where whatever else is done with it looks for it."""
        self.model.network.cpu()


def _passed(
    model: Model, samples: Sequence[Any], engine: str, tta: str
) -> Iterator[tuple[Incoming, tuple[Tensor, Tensor] | None]]:
    """Features (N, D) and outputs (N, C) for the samples of a batch that could be read."""
    predictor = Predictor(model, engine, len(samples), tta)
    try:
        for batch in reader_of(model).batches(samples, model.backbone.input, predictor.at_once):
            yield batch, None if batch.inputs is None else predictor(batch.inputs)
    finally:
        predictor.close()


def explanations(model: Model, inputs: Inputs, answers: Tensor) -> list[str]:
    """What answers (N,) for samples (N, ...) come from: a picture as a data URL each, or words and their weights."""
    with tempfile.TemporaryDirectory() as scratch:
        names = [str(i) for i in range(len(answers))]
        said = reader_of(model).explain(model.network, model.backbone.input, inputs, answers, names, Path(scratch))
        pictures = {path.name: path for path in Path(scratch).iterdir()}
        return [_data_url(pictures[text]) if text in pictures else text for text in said]


def _data_url(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def reader_of(model: Model) -> Any:
    """The module that reads what a model takes."""
    return import_module(_READERS[model.backbone.input.noun])
