"""The embedded default: scikit-learn's handwritten digits as an image folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tl_lightning.paths import cache_dir

_PARTS = {"test": 0.15, "val": 0.15 / 0.85}


def folder() -> str:
    """The folder with train, val and test (70, 15, 15 %, stratified) of 1,797 grey 8 x 8 images; written once."""
    root = cache_dir() / "digits"
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=root.parent))
        _write(draft)
        try:
            os.rename(draft, root)
        except OSError:  # another process was first
            shutil.rmtree(draft)
    return str(root)


def _write(root: Path) -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    levels = np.round(images / 16 * 255).astype(np.uint8).reshape(-1, 8, 8)  # 17 grey levels, 0..16
    rest, parts = np.arange(len(labels)), {}
    for split, fraction in _PARTS.items():
        rest, parts[split] = train_test_split(rest, test_size=fraction, stratify=labels[rest], random_state=0)
    for split, indices in {**parts, "train": rest}.items():
        for i in indices:
            path = root / split / str(labels[i]) / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels[i]).save(path)
