"""The exact head against scikit-learn's LogisticRegressionCV, from 5 to 50 samples of each class.

    python benchmarks/exact_head.py digits photos/ texts.csv ... [weights=FILE] [image_size=96]

Five draws of each number; the rest, up to 2,000 samples, is predicted. Both see the same features: of images those of
MobileNetV2's last stage, of texts MiniLM's. scikit-learn's are normalised to unit length, three folds, ten penalties.
`all stages` lets the head read every layer, or the last alone where that does clearly better in the folds.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import sys
import time
import warnings
from pathlib import Path

import tl_lightning  # noqa: F401  # first: it lets torchvision be imported

import numpy as np  # isort: skip
import torch
from sklearn.linear_model import LogisticRegressionCV

from tl_lightning.build import feature_options, gather
from tl_lightning.config.compose import composed
from tl_lightning.config.settings import settings_of
from tl_lightning.config.words import arguments
from tl_lightning.features.frozen import kept_rows
from tl_lightning.features.views import View
from tl_lightning.heads.solve import Solution, solve_classes
from tl_lightning.strategies import LinearProbe

NUMBERS, SEEDS, MOST = (5, 10, 25, 50), 5, 2000


def features(source: str, more: list[str]) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """Features (N, D) of a data set by who reads them, labels (N,), and the width of the last stage."""
    if source == "digits":
        words = ["data=digits"]
    elif Path(source).is_dir():
        words = [f"data.root={source}", "backbone=mobilenet_v2", *more]
    else:
        words = [f"data.file={source}", "backbone=minilm", "backbone.length=64"]
    said = arguments([*words, "data.val_fraction=0.001", "data.batch_size=1", "trainer=cpu", "task=classification"])
    settings = settings_of(composed(said))
    backbone, data, _ = gather(settings)
    options, device, wanted = feature_options(settings), torch.device("cpu"), [("train", View(data.eval_transform))]
    read = {"last stage": backbone}
    if backbone.all_layers:
        read["all stages"] = LinearProbe(taps=True).shape(backbone)
    rows = {
        name: np.asarray(kept_rows(b, len(b.stages), wanted, data, options, device, name)[0], np.float32)
        for name, b in read.items()
    }
    return rows, data.samples.targets("train"), backbone.widths()[-1]


def accuracy(solution: Solution, rows: np.ndarray, labels: np.ndarray) -> float:
    """Of a head on features (N, D) for labels (N,)."""
    logits = rows @ solution.weight.numpy().T + solution.bias.numpy()
    return float((logits.argmax(1) == labels).mean())


def compared(source: str, more: list[str]) -> None:
    """Print a row for every number of samples."""
    rows, y, width = features(source, more)
    last = rows["last stage"]
    unit = last / np.linalg.norm(last, axis=1, keepdims=True)
    for number in NUMBERS:
        scores: dict[str, list[float]] = {"scikit-learn": [], **{name: [] for name in rows}}
        seconds = []
        for seed in range(SEEDS):
            random = np.random.default_rng(100 + seed)
            train = np.concatenate([random.permutation(np.flatnonzero(y == c))[:number] for c in np.unique(y)])
            test = random.permutation(np.setdiff1d(np.arange(len(y)), train))[:MOST]
            reference = LogisticRegressionCV(cv=3, max_iter=3000).fit(unit[train], y[train])
            scores["scikit-learn"].append(float((reference.predict(unit[test]) == y[test]).mean()))
            for name, x in rows.items():
                began = time.perf_counter()
                solution = solve_classes(x[train], y[train], int(y.max()) + 1, last=width)
                seconds.append(time.perf_counter() - began)
                scores[name].append(accuracy(solution, x[test], y[test]))
        shown = " | ".join(
            f"{np.mean(scores[n]):.3f} ± {np.std(scores[n]):.3f}" if scores.get(n) else ""
            for n in ("scikit-learn", "last stage", "all stages")
        )
        print(f"| {Path(source).stem} | {number} | {shown} | {np.mean(seconds):.2f} s |", flush=True)


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    told = [word for word in sys.argv[1:] if "=" in word]
    print("| data | of each class | scikit-learn | exact head, last stage | exact head, all stages | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for source in (word for word in sys.argv[1:] if "=" not in word):
        compared(source, [f"backbone.{word}" for word in told])


if __name__ == "__main__":
    main()
