"""Images that tests write."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, level: int, seed: int, size: tuple[int, int] = (40, 36)) -> None:
    """A noisy image around a grey level, so that classes of different levels can be told apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-25, 25, (size[1], size[0], 3))
    Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8)).save(path)
