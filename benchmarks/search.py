"""What pruning and halving save, and where they end, against training everything to its end.

    python benchmarks/search.py FOLDER [WEIGHTS] [PICTURE]

FOLDER: of images by class; WEIGHTS: of MobileNetV2, a file (default: torchvision's). Sixteen configurations of the last
stage (rates by weight decays) for eight epochs: all of them, by successive halving, and twenty trials by TPE with and
without pruning over the same ranges. PICTURE: the best score so far by seconds of training, of the two searches.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
GRID = ["optimizer.lr=1e-4,3e-4,1e-3,3e-3", "optimizer.weight_decay=0.001,0.01,0.1,0.3"]
SPACE = ["hydra/sweeper=optuna", "hydra.sweeper.trials=20", "optimizer.lr=tag(log,interval(1e-4,3e-3))",
         "optimizer.weight_decay=tag(log,interval(1e-3,0.3))"]  # fmt: skip


def swept(folder: str, *words: str) -> tuple[float, list[dict[str, float]]]:
    """Wall seconds of a sweep, and what its jobs say of themselves, in order."""
    began = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), "-m", *words, f"hydra.sweep.dir={folder}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    files = sorted(Path(folder).glob("*/metrics.json"), key=lambda file: int(file.parent.name))
    return seconds, [json.loads(file.read_text()) for file in files]


def draw(searches: dict[str, list[dict[str, float]]], picture: str) -> None:
    """The best score so far by seconds of training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for name, jobs in searches.items():
        spent, best, points = 0.0, 0.0, []
        for job in jobs:
            spent, best = spent + job["seconds/total"], max(best, job["val/accuracy"])
            points.append((spent, best))
        axes.step(*zip(*points, strict=True), where="post", label=name, marker=".")
    axes.set_xlabel("seconds")
    axes.set_ylabel("best val/accuracy so far")
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=130)


def main() -> None:
    """Print a line for each way."""
    folder, weights, picture = [*sys.argv[1:], *("", "DEFAULT", "")[len(sys.argv) - 1 :]]
    given = [f"data.root={folder}", "backbone=mobilenet_v2", f"backbone.weights={weights}",
             "strategy=finetune_top", "cache=4", "trainer.max_epochs=8", "report=false", "logger=csv"]  # fmt: skip
    ways = {"all 16": GRID, "halving": ["sweep=halving", *GRID], "20 trials": [*SPACE, "hydra.sweeper.prune=false"],
            "20 trials, pruning": SPACE}  # fmt: skip
    print(f"{'':20} {'seconds':>8} {'in training':>12} {'epochs':>7} {'stopped':>8} {'best':>7}")
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, words in ways.items():
            seconds, jobs = found[name] = swept(f"{scratch}/{len(found)}", *given, *words)
            stopped = sum("ended" in job for job in jobs)
            print(f"{name:20} {seconds:8.0f} {sum(job['seconds/fit'] for job in jobs):12.0f} "
                  f"{sum(job['epochs'] for job in jobs):7} {stopped:8} {max(j['val/accuracy'] for j in jobs):7.4f}",
                  flush=True)  # fmt: skip
    if picture:
        draw({name: jobs for name, (_, jobs) in found.items() if "trials" in name}, picture)


if __name__ == "__main__":
    main()
