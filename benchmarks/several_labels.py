"""Images of several classes: every strategy, and the exact head against scikit-learn's one-vs-rest regression.

    python benchmarks/several_labels.py cifar10/ [weights=FILE]

2,000 images are made, each of two pictures of different classes side by side, every tenth of one; 400 are for
validation. The exact head and scikit-learn see the same features, those of MobileNetV2's last stage.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import csv
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

import tl_lightning as tl
from tl_lightning.build import feature_options, gather
from tl_lightning.config.compose import composed
from tl_lightning.config.settings import settings_of
from tl_lightning.config.words import arguments

IMAGES, VAL, SIDE = 2000, 400, 48
EPOCHS = {"gradual_unfreeze": 8}  # one for each stage, and some for all
STRATEGIES = ("linear_probe", "feature_extraction", "finetune_top", "finetune_all", "lp_ft", "gradual_unfreeze",
              "early_features", "lora", "auto")  # fmt: skip


def mosaics(source: Path, folder: Path) -> Path:
    """A table of images that are made of one or two of the pictures below `source`, and of their classes."""
    random = np.random.default_rng(0)
    classes = sorted(p for p in source.iterdir() if p.is_dir())
    if {p.name for p in classes} & {"train"}:
        classes = sorted(p for p in (source / "train").iterdir() if p.is_dir())
    pictures = {p.name: sorted(f for f in p.iterdir() if f.is_file()) for p in classes}
    with (folder / "mosaics.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for i in range(IMAGES):
            chosen = random.choice(sorted(pictures), 1 if i % 10 == 0 else 2, replace=False)
            canvas = Image.new("RGB", (2 * SIDE, SIDE), "grey")
            for k, name in enumerate(chosen):
                with Image.open(pictures[name][random.integers(len(pictures[name]))]) as picture:
                    canvas.paste(picture.convert("RGB").resize((SIDE, SIDE)), (k * SIDE, 0))
            canvas.save(folder / f"{i:04d}.png")
            rows.writerow([f"{i:04d}.png", "|".join(chosen), "val" if i < VAL else "train"])
    return folder / "mosaics.csv"


def strategies(table: Path, folder: Path, words: dict[str, object]) -> None:
    """A line for each strategy."""
    print("| strategy | all right | macro-F1 | mAP | s |\n|---|---|---|---|---|", flush=True)
    for strategy in STRATEGIES:
        began = time.perf_counter()
        epochs = {"trainer.max_epochs": EPOCHS.get(strategy, 5)}
        run = tl.train(table, run_dir=folder / strategy, strategy=strategy, **words, **epochs)
        scores = [run.metrics[f"val/{name}"] for name in ("accuracy", "macro_f1", "macro_average_precision")]
        seconds = time.perf_counter() - began
        print(f"| {strategy} | {' | '.join(f'{s:.3f}' for s in scores)} | {seconds:.0f} |", flush=True)


def exact_head(table: Path, words: dict[str, object]) -> None:
    """Mean average precision of both heads on the same features."""
    import torch
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.metrics import average_precision_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from tl_lightning.features.frozen import kept_rows
    from tl_lightning.features.views import View

    said = arguments([f"data.file={table}", *(f"{k}={v}" for k, v in words.items())])
    settings = settings_of(composed(said))
    backbone, data, _ = gather(settings)
    wanted = [(split, View(data.eval_transform)) for split in ("train", "val")]
    rows = kept_rows(backbone, len(backbone.stages), wanted, data, feature_options(settings), torch.device("cpu"), "")
    train, val = (data.samples.targets(split) for split in ("train", "val"))
    began = time.perf_counter()
    solution = data.task.solve(rows[0], train)
    ours = rows[1] @ solution.weight.numpy().T + solution.bias.numpy()
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    head = OneVsRestClassifier(make_pipeline(StandardScaler(), LogisticRegressionCV(cv=3, max_iter=2000)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = head.fit(rows[0], train).decision_function(rows[1])
    theirs_seconds = time.perf_counter() - began
    print("\n| head | mAP | s |\n|---|---|---|")
    print(f"| exact | {average_precision_score(val, ours):.4f} | {seconds:.1f} |")
    print(f"| scikit-learn, one-vs-rest | {average_precision_score(val, theirs):.4f} | {theirs_seconds:.1f} |")


def main() -> None:
    """Make the images, then both tables."""
    source, *more = sys.argv[1:]
    named = dict(word.partition("=")[::2] for word in more)
    words = {"backbone": "mobilenet_v2", "backbone.image_size": 96, "trainer": "cpu",
             "data.separator": "bar", "report": False}  # fmt: skip
    if "weights" in named:
        words["backbone.weights"] = named["weights"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = mosaics(Path(source), folder)
        exact_head(table, words)
        strategies(table, folder / "runs", words)


if __name__ == "__main__":
    main()
