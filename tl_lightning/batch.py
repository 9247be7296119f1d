"""What a loader gives and a network is fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

Inputs = Tensor | Mapping[str, Tensor]  # images or activations (N, ...); tokens by name, (N, T) each


@dataclass
class Batch:
    """Samples, their targets, and where in their split they stand.

    `inputs`: images (N, 3, H, W), activations (N, ...), or tokens as a mapping of (N, T). `targets`: class indices
    (N,), several classes or values (N, C). `index` (N,): the place of each sample in its split.
    """

    inputs: Inputs
    targets: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def pin_memory(self) -> Batch:
        """The same in pinned memory; torch's loader asks for it."""
        pinned = map_tensors(lambda x: x.pin_memory(), self.inputs)
        return Batch(pinned, self.targets.pin_memory(), self.index.pin_memory())

    def with_inputs(self, inputs: Inputs) -> Batch:
        """The same samples in another form: activations (N, ...) or features (N, D)."""
        return replace(self, inputs=inputs)


def map_tensors(change: Callable[[Tensor], Tensor], inputs: Inputs) -> Any:
    """The tensor, or every tensor of a mapping, changed: what was given in its own form."""
    if isinstance(inputs, Mapping):
        return {name: change(tensor) for name, tensor in inputs.items()}
    return change(inputs)


def first_tensor(inputs: Inputs) -> Tensor:
    """The tensor (N, ...), or the first of a mapping: all have the same number of samples, device and kind."""
    return next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
