"""What leaks cost: accuracy that a leaking split promises, beside what new images give.

    python benchmarks/leaks.py cifar10/ [weights=FILE]

`cifar10/` has train and test; every fifth image of train is for val. First a tenth of val is copied into train, as it
is, and as crops of a lower quality. Then 800 training images become five frames each (crops, brightness), and val is
drawn from the frames: one by one, with near copies kept together (the default), and by group. The exact head, and five
epochs of all stages; `new images` are the test split.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

import tl_lightning as tl

FRAMES, SOURCES = 5, 800
STRATEGIES = {"linear_probe": 1, "finetune_all": 5}


def cropped(image: Image.Image, random: np.random.Generator, least: float) -> Image.Image:
    """A part of an image, a little brighter or darker."""
    w, h = image.size
    share = random.uniform(least, 1)
    x, y = random.uniform(0, w * (1 - share)), random.uniform(0, h * (1 - share))
    part = image.resize((w, h), Image.Resampling.BICUBIC, box=(x, y, x + share * w, y + share * h))
    return ImageEnhance.Brightness(part).enhance(random.uniform(0.85, 1.15))


def leaking(source: Path, into: Path, change: Callable[[Image.Image], Image.Image] | None) -> Path:
    """The data with a tenth of val in train, too."""
    shutil.copytree(source, into)
    for label in sorted(p.name for p in (into / "train").iterdir()):
        (into / "val" / label).mkdir(parents=True)
        for file in sorted((into / "train" / label).iterdir())[::5]:
            file.rename(into / "val" / label / file.name)
    for label in sorted(p.name for p in (into / "val").iterdir()):
        for file in sorted((into / "val" / label).iterdir())[::10]:
            target = into / "train" / label / f"copy_{file.name}"
            if change is None:
                shutil.copy(file, target)
            else:
                with Image.open(file) as image:
                    change(image.convert("RGB")).save(target.with_suffix(".jpg"), quality=75)
    return into


def frames(source: Path, into: Path) -> Path:
    """Training images as frames of a film, and the test split."""
    shutil.copytree(source / "test", into / "test")
    random = np.random.default_rng(0)
    classes = sorted(p.name for p in (source / "train").iterdir())
    for label in classes:
        (into / "train" / label).mkdir(parents=True)
        for k, file in enumerate(sorted((source / "train" / label).iterdir())[: SOURCES // len(classes)]):
            with Image.open(file) as image:
                for frame in range(FRAMES):
                    part = cropped(image.convert("RGB"), random, 0.8)
                    part.save(into / "train" / label / f"scene{k:03d}_{frame}.jpg", quality=90)
    return into


def trained(root: Path, folder: Path, words: dict[str, object]) -> list[str]:
    """Accuracies on val, val without copies, and test, for each strategy."""
    cells = []
    for strategy, epochs in STRATEGIES.items():
        name = f"{root.name} {strategy} {' '.join(map(str, words.values()))}".replace("/", "_")[:120]
        run = tl.train(root, run_dir=folder / name, strategy=strategy, **words, **{"trainer.max_epochs": epochs})
        found = run.metrics
        keys = ("val/accuracy", "val/without_copies/accuracy", "test/accuracy")
        cells += [f"{found[key]:.3f}" if key in found else "" for key in keys]
    return cells


def main() -> None:
    """Both tables."""
    source, *more = sys.argv[1:]
    words: dict[str, object] = {
        "backbone": "mobilenet_v2",
        "backbone.image_size": 96,
        "trainer": "cpu",
        "report": False,
    }
    words |= {f"backbone.{word.partition('=')[0]}": word.partition("=")[2] for word in more}
    random = np.random.default_rng(0)
    head = "| | " + " | ".join(f"{s}: val | without copies | new images" for s in STRATEGIES) + " |"
    print(f"{head}\n|{'---|' * 7}")
    with tempfile.TemporaryDirectory() as scratch:
        folder, runs = Path(scratch), Path(scratch, "runs")
        plain = leaking(Path(source), folder / "plain", None)
        for file in plain.glob("train/*/copy_*"):
            file.unlink()
        changed = leaking(Path(source), folder / "changed", lambda image: cropped(image, random, 0.9))
        for name, root in (("clean", plain), ("a tenth copied", leaking(Path(source), folder / "copied", None)),
                           ("a tenth cropped and encoded anew", changed)):  # fmt: skip
            print(f"| {name} | {' | '.join(trained(root, runs, words))} |", flush=True)
        film = frames(Path(source), folder / "film")
        for name, own in (
            ("frames, one by one", {"doctor": "off"}),
            ("frames, near copies together", {}),
            ("frames, by group", {"data.group": r"test/.*|[a-z]+/scene\d+"}),
        ):
            print(f"| {name} | {' | '.join(trained(film, runs, {**words, **own}))} |", flush=True)


if __name__ == "__main__":
    main()
