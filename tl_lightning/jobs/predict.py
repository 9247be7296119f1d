"""What a trained model says of new images or texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch

from tl_lightning.runs.model import Model

# By what a sample is: the module whose `read(source, input)` gives (name, sample) of everything in it, and `stack`.
_READERS = {"images": "tl_lightning.data.images.image_reading", "texts": "tl_lightning.data.texts.text_reading"}
_BATCH = 32


@dataclass(frozen=True)
class Predictions:
    """What a model says: an answer for each source, and the numbers (N, C) behind it, one for each of `outputs`.

    An answer is a class, a list of classes, or a value; the numbers are probabilities, or values.
    """

    sources: Sequence[str]
    answers: Sequence[Any]
    probabilities: np.ndarray
    outputs: Sequence[str]

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[tuple[str, Any, np.ndarray]]:
        return iter(zip(self.sources, self.answers, self.probabilities, strict=True))

    def _repr_html_(self) -> str:
        from tl_lightning.reports.html import predictions_table

        return predictions_table(self.sources, self.answers, self.probabilities.max(1).tolist())


@torch.no_grad()
def predict(model: Model, source: Any) -> Predictions:
    """What a model says of a file, a folder, a list of them, an array (H, W, 3), a PIL image, a text or texts.

    Raises UserError for what is not there, cannot be read, or is of another kind.
    """
    reader = import_module(_READERS[model.backbone.input.noun])
    names: list[str] = []
    found: list[np.ndarray] = []
    waiting: list[Any] = []
    for name, sample in reader.read(source, model.backbone.input):
        names.append(name)
        waiting.append(sample)
        if len(waiting) == _BATCH:
            found.append(_answer(model, reader.stack(waiting, model.backbone.input)))
            waiting = []
    if waiting:
        found.append(_answer(model, reader.stack(waiting, model.backbone.input)))
    numbers = np.concatenate(found)
    return Predictions(names, model.task.answers(numbers), numbers, model.task.outputs)


def _answer(model: Model, inputs: Any) -> np.ndarray:
    """(N, C) for images (N, 3, H, W) of 0..255 or tokens (N, T) by name."""
    outputs = model.network(model.backbone.input.normalise(inputs))
    answers: np.ndarray = model.task.predictions(outputs.float()).numpy()
    return answers
