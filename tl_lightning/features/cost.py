"""What a backbone costs: time for a pass, memory for a training step."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from tl_lightning.backbones.backbone import Backbone
from tl_lightning.batch import map_tensors
from tl_lightning.features.engine import Prefix

_FORMATS = {2: torch.contiguous_format, 4: torch.channels_last}  # of tokens (N, T), of images (N, 3, H, W)


@torch.no_grad()
def pace(backbone: Backbone, batch: int = 8, rounds: int = 3) -> float:
    """Images (or texts of 32 tokens) a second through the network on this CPU, BatchNorm folded; the best round."""
    images = backbone.input.blank(torch.zeros(()), batch)
    images = map_tensors(lambda x: x.contiguous(memory_format=_FORMATS[x.ndim]), images)
    prefix = Prefix(backbone, len(backbone.stages), "fused", torch.device("cpu"), batch)
    prefix(images)
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        prefix(images)
        seconds.append(time.perf_counter() - began)
    return batch / min(seconds)


def activation_bytes(backbone: Backbone) -> int:
    """Bytes that a training step keeps of one image, in single precision: what autograd saves, parameters left out."""
    held = {}
    own = {p.untyped_storage().data_ptr() for p in backbone.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = backbone.eval()(backbone.input.blank(next(backbone.parameters())))
    return sum(held.values()) if output.requires_grad else 0
