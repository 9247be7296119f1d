"""Heat maps over the images that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image
from torch import Tensor, nn

from tl_lightning.backbones.heat_maps import grad_cam
from tl_lightning.inputs import ImageInput

_SIDE = 224  # pixels of a picture, at least
_SHADE = 0.5


def explain(
    network: nn.Sequential, input: ImageInput, images: Tensor, answers: Tensor, names: Sequence[str], folder: Path
) -> list[str]:
    """A picture for each of the images (N, 3, H, W) of 0..255 and answers (N,); the files' names.

    Each is as the network saw it, warm where the answer comes from.
    """
    maps = grad_cam(network, input.normalise(images.float()), answers)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, image, heat in zip(names, images, maps, strict=True):
        files.append(f"{name}.png")
        overlay(image, heat).save(folder / files[-1])
    return files


def overlay(image: Tensor, heat: Tensor) -> Image.Image:
    """A heat map (h, w) in [0, 1] over an image (3, H, W) of 0..255, whose colours give way to it."""
    side = max(_SIDE, *image.shape[1:])
    size = (side, side * image.shape[1] // image.shape[2])
    below = Image.fromarray(image.permute(1, 2, 0).byte().cpu().numpy()).resize(size, Image.Resampling.BICUBIC)
    heat_map = Image.fromarray((heat.cpu().numpy() * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    shares = np.asarray(heat_map).astype(np.float32)[..., None] / 255
    warm = colormaps["inferno"](shares[..., 0])[..., :3] * 255
    grey = np.asarray(below.convert("L").convert("RGB")).astype(np.float32)
    mixed = grey * (1 - _SHADE * shares) + warm * _SHADE * shares
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))
