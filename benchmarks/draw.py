"""What pretraining draws, as a picture, and how fast one core draws it: python benchmarks/draw.py docs/drawn.png.

Rows of the picture go from the easiest scenes to the most difficult; the table gives images per second.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tl_lightning.pretraining import fractals, noise
from tl_lightning.pretraining.scenes import Artist


def main() -> None:
    """Draw, time, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--systems", type=int, default=500)
    parser.add_argument("--materials", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000, help="to be timed, of each difficulty")
    options = parser.parse_args()
    systems, materials = fractals.sample(options.systems, 0), noise.sample(options.materials, 0)
    rows = []
    print("| difficulty | images/s |\n| --- | --- |")
    for difficulty in (0, 0.2, 0.4, 0.6, 0.8, 1):
        artist = Artist(systems, materials, options.size, np.random.default_rng(round(10 * difficulty)), difficulty)
        began = time.perf_counter()
        images = [artist.scene()[0] for _ in range(options.images)]
        print(f"| {difficulty} | {options.images / (time.perf_counter() - began):.0f} |")
        rows += images[:16]
    framed = np.pad(np.stack(rows), ((0, 0), (0, 0), (0, 2), (0, 2)))  # (96, 3, H, W), in six rows of sixteen
    height, width = framed.shape[2:]
    grid = framed.reshape(6, 16, 3, height, width).transpose(0, 3, 1, 4, 2).reshape(6 * height, 16 * width, 3)
    Image.fromarray(grid).save(options.picture)


if __name__ == "__main__":
    main()
