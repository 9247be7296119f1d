"""Sweeps whose jobs share what frozen stages compute, against as many separate runs that compute it in every epoch.

    python benchmarks/shared_sweep.py FOLDER [WEIGHTS]

FOLDER: of images by class; WEIGHTS: of MobileNetV2, a file (default: torchvision's).
Twelve jobs each: four rates by three seeds of a head on frozen stages; the same with other rates, once the first sweep
is done; three strategies with different boundaries by two rates and two seeds, without augmentation. Epochs by default.
Each sweep begins with an empty cache but the second one. The separate runs are commands of their own with cache=off;
those of other rates and seeds take as long, and are not run again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[1]
STRATEGIES = "feature_extraction,early_features,finetune_top"


def seconds(*words: str, cache: str) -> float:
    """Wall time of a command."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words], check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "TL_CACHE": cache},
    )  # fmt: skip
    return time.perf_counter() - began


def separate(given: list[str], swept: dict[str, str], scratch: str) -> float:
    """Seconds of a run of its own for every combination."""
    total = 0.0
    for number, values in enumerate(product(*(choices.split(",") for choices in swept.values()))):
        words = [f"{key}={value}" for key, value in zip(swept, values, strict=True)]
        where = f"hydra.run.dir={scratch}/{next(iter(swept))}{number}-{time.time_ns()}"
        total += seconds(*given, *words, "cache=off", where, cache=f"{scratch}/none")
    return total


def main() -> None:
    """Print a line for each sweep."""
    folder, weights = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "DEFAULT"
    given = [f"data.root={folder}", "backbone=mobilenet_v2", f"backbone.weights={weights}", "report=false"]
    heads = {"optimizer.lr": "3e-4,1e-3,3e-3,1e-2", "seed": "0,1,2"}
    others = {"optimizer.lr": "5e-4,2e-3,5e-3,2e-2", "seed": "3,4,5"}
    three = {"strategy": STRATEGIES, "optimizer.lr": "3e-4,1e-3", "seed": "0,1"}
    frozen = [*given, "strategy=feature_extraction"]
    plain = [*given, "augment=none"]
    known: dict[str, float] = {}
    print(f"{'twelve jobs':34} {'separate':>9} {'sweep':>7} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as scratch:
        cases = [("4 rates x 3 seeds", frozen, heads, "a"), ("4 other rates x 3 other seeds", frozen, others, "a"),
                 ("3 strategies x 2 rates x 2 seeds", plain, three, "b")]  # fmt: skip
        for name, words, swept, cache in cases:
            listed = [f"{key}={values}" for key, values in swept.items()]
            where = f"hydra.sweep.dir={scratch}/sweep-{time.time_ns()}"
            together = seconds("-m", *words, *listed, where, cache=f"{scratch}/{cache}")
            if str(words) not in known:
                known[str(words)] = separate(words, swept, scratch)
            apart = known[str(words)]
            print(f"{name:34} {apart:7.0f} s {together:5.0f} s {apart / together:5.1f}x", flush=True)


if __name__ == "__main__":
    main()
