"""What the output of the frozen stages depends on, as one key."""

from __future__ import annotations

import hashlib
import json

import PIL
import torch
import torchvision

from tl_lightning.backbones.backbone import Backbone
from tl_lightning.features.views import View


def key(prefix: str, split: str, images: list[str], view: View, *how: str | bool) -> str:
    """The name of a cache entry: differs if anything differs that the rows depend on. `how`: they are computed."""
    parts = ["checksums", prefix, split, images, view.name, *how, PIL.__version__, torchvision.__version__]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def of_prefix(backbone: Backbone, boundary: int) -> str:
    """Digest of the stages below the boundary: weights, statistics, stage table, taps, architecture, normalisation."""
    stages = backbone.stages[:boundary]
    digest = hashlib.blake2b(digest_size=20)
    table = [(s.name, s.prefixes) for s in stages]
    taken = (backbone.reader, boundary)  # what of the stages makes a row
    digest.update(repr((table, taken, backbone.input.meaning)).encode())
    digest.update(repr(backbone.net).encode())  # strides, activations: what no parameter tells
    for name, tensor in backbone.net.state_dict().items():
        if any(s.owns(name) for s in stages):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
