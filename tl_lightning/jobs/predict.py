"""What a trained model says of new images or texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch

from tl_lightning.batch import map_tensors
from tl_lightning.data.incoming import Incoming
from tl_lightning.errors import UserError
from tl_lightning.features.engine import Prefix
from tl_lightning.runs.model import Model

# By what a sample is: the module whose `sources(source, column)` names everything in it, whose `batches(sources, input,
# size)` reads them, and whose `labelled(where, make, task, options)` finds samples with labels.
_READERS = {"images": "tl_lightning.data.images.image_reading", "texts": "tl_lightning.data.texts.text_reading"}
_BATCH = 32
_MANY = 64


@dataclass(frozen=True)
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

    def _repr_html_(self) -> str:
        from tl_lightning.reports.html import predictions_table

        return predictions_table(self.sources, self.answers, self.probabilities.max(1).tolist())


def predict(model: Model, source: Any, engine: str = "eager") -> Predictions:
    """What a model says of whatever `sources` of its kind take: files, folders, arrays, pictures; texts.

    Raises UserError for what is not there or is of another kind, and where nothing can be read.
    """
    named = sources(model, source)
    numbers = np.full((len(named), len(model.task.outputs)), np.nan, np.float32)
    answers: list[Any] = [None] * len(named)
    errors: dict[int, str] = {}
    for batch, found in answered(model, [sample for _, sample in named], engine):
        errors |= batch.errors
        if found is not None:
            numbers[batch.places] = found
            for place, answer in zip(
                batch.places, model.task.answers(found, model.calibration.thresholds), strict=True
            ):
                answers[place] = answer
    if len(errors) == len(named):
        raise UserError(errors[0])
    return Predictions([name for name, _ in named], answers, numbers, model.task.outputs, errors)


def sources(model: Model, source: Any, column: str | None = None) -> list[tuple[str, Any]]:
    """(name, sample) of everything in `source`, none of it read. Raises UserError for what a model does not take."""
    found: list[tuple[str, Any]] = reader_of(model).sources(source, column)
    return found


def answered(
    model: Model, samples: Sequence[Any], engine: str = "eager"
) -> Iterator[tuple[Incoming, np.ndarray | None]]:
    """Batches of samples in order, each with the predictions (N, C) for those of it that could be read."""
    for batch, outputs in _outputs(model, samples, engine):
        if outputs is None:
            yield batch, None
        else:
            yield batch, model.task.predictions(outputs / model.calibration.temperature).numpy()


def outputs_of(model: Model, samples: Sequence[Any]) -> tuple[torch.Tensor, dict[int, str]]:
    """Outputs (N, C) for those samples that can be read, and why others cannot, by place.

    Raises UserError where nothing can be read.
    """
    found: list[torch.Tensor] = []
    errors: dict[int, str] = {}
    for batch, outputs in _outputs(model, samples, "eager"):
        errors.update(batch.errors)
        if outputs is not None:
            found.append(outputs)
    if not found:
        raise UserError(errors[0] if errors else "there are no samples")
    return torch.cat(found), errors


@torch.no_grad()
def _outputs(model: Model, samples: Sequence[Any], engine: str) -> Iterator[tuple[Incoming, torch.Tensor | None]]:
    backbone = model.backbone
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prefix = Prefix(backbone, len(backbone.stages), engine, device, len(samples))
    features = prefix if len(samples) >= _MANY else prefix.eager  # of a few, building another engine takes longer
    head = model.head.to(device)
    for batch in reader_of(model).batches(samples, backbone.input, _BATCH):
        inputs = None if batch.inputs is None else map_tensors(lambda x: x.to(device), batch.inputs)
        yield batch, None if inputs is None else head(features(backbone.input.normalise(inputs))).float().cpu()


def reader_of(model: Model) -> Any:
    """The module that reads what a model takes."""
    return import_module(_READERS[model.backbone.input.noun])
