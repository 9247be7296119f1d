"""Normalised images in memory that is used again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from tl_lightning.inputs import ImageInput


class Normaliser:
    """Images (N, 3, H, W) of 0..255 to normalised ones, in memory of its own for every size."""

    def __init__(self, input: ImageInput) -> None:
        self.input = input
        self._room: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised (N, 3, H, W), until the next ones of their size come."""
        import torch

        shape = tuple(images.shape[1:])
        if shape not in self._room or len(self._room[shape]) < len(images):
            channels_last = torch.channels_last
            self._room[shape] = torch.empty(images.shape, device=images.device, memory_format=channels_last)
        return self.input.normalise(images, self._room[shape][: len(images)])
