"""What a model says of one sample, as programs read it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from tl_lightning.batch import Inputs, map_tensors
from tl_lightning.errors import UserError
from tl_lightning.evaluation.neighbours import Neighbours
from tl_lightning.jobs.predict import Predictor, explanations, reader_of
from tl_lightning.runs.model import Model

_TO_COME = 100_000  # samples: a server pays for the fastest engine
_FIRST = 8  # samples that engines are compared on


class Answer(BaseModel):
    """What the model says of a sample, or why there is no answer."""

    source: str = Field(description="the name that the sample was sent under")
    answer: str | float | list[str] | list[float] | None = Field(
        default=None, description="a class (empty if it is below its threshold), several classes, or values"
    )
    numbers: dict[str, float | None] = Field(default={}, description="the probability of each class, or the values")
    distance: float | None = Field(default=None, description="from the training samples that are nearest, 0 to 2")
    unknown: bool | None = Field(default=None, description="whether that is farther than nearly all of them are apart")
    explanation: str | None = Field(default=None, description="a heat map as a data URL, or the words that weigh most")
    error: str | None = Field(default=None, description="why the sample could not be read")


@dataclass(frozen=True)
class InferenceRequest:
    """A sample that has been read, (1, ...), and whether its answer is to be explained."""

    inputs: Inputs
    explain: bool = False


class InferenceModel:
    """A model with all that it needs to answer samples from outside; `neighbours` tell what it does not know.

    `max_megapixels` that may be decoded of one image.
    """

    def __init__(self, model: Model, engine: str, neighbours: Neighbours | None, max_megapixels: float) -> None:
        # a copy: whatever else is done with the model may move it to another device
        self.model = replace(model, network=copy.deepcopy(model.network))
        self.neighbours, self.reader = neighbours, reader_of(model)
        self.input = model.backbone.input.at_most(max_megapixels)
        self.predictor = Predictor(self.model, engine, _TO_COME)
        blank = self.input.blank(next(self.model.network.parameters()), _FIRST)
        self.predictor.prefix.choose(map_tensors(lambda x: torch.randn_like(x) if x.is_floating_point() else x, blank))

    def read(self, name: str, content: Any) -> Inputs | Answer:
        """A sample (1, ...) of the contents of a file, or of a text; why, where it cannot be read."""
        try:
            (_, sample), *_ = self.reader.sources([content])
            batch = next(iter(self.reader.batches([sample], self.input, 1)))
        except UserError as error:
            return Answer(source=name, error=str(error))
        return Answer(source=name, error=batch.errors[0]) if batch.inputs is None else batch.inputs

    def answer(self, asked: Sequence[InferenceRequest]) -> list[Answer]:
        """What the model says of samples, each under an empty name."""
        inputs = self.reader.joined([one.inputs for one in asked])
        features, outputs = self.predictor(inputs)
        task, kept = self.model.task, self.model.calibration
        numbers = task.predictions(outputs / kept.temperature).numpy()
        answers = [
            Answer(source="", answer=said, numbers=dict(zip(task.outputs, map(_finite, row), strict=True)))
            for said, row in zip(task.answers(numbers, kept.thresholds), numbers.tolist(), strict=True)
        ]
        if self.neighbours:
            for answer, distance in zip(answers, self.neighbours.distances(features.numpy()).tolist(), strict=True):
                answer.distance, answer.unknown = distance, distance > self.neighbours.threshold
        if places := [place for place, one in enumerate(asked) if one.explain]:
            some = self.reader.joined([asked[place].inputs for place in places])
            said = self._explanations(some, torch.from_numpy(numbers[places].argmax(1)))
            for place, explanation in zip(places, said, strict=True):
                answers[place].explanation = explanation
        return answers

    def _explanations(self, inputs: Inputs, places: Tensor) -> Sequence[str | None]:
        """Of the outputs at these places (N,) for samples (N, ...); None where the network has nothing to show."""
        on_device = map_tensors(lambda x: x.to(self.predictor.device), inputs)
        try:
            return explanations(self.model, on_device, places)
        except UserError:
            return [None] * len(places)


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
