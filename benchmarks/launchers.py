"""A sweep in one process against the same by other launchers: seconds, and how far their leaderboards differ.

    python benchmarks/launchers.py FOLDER [WEIGHTS] [LAUNCHER ...]

FOLDER: of images by class; WEIGHTS: of MobileNetV2, a file (default: its own); LAUNCHER: joblib, or others that are
installed (submitit_local, submitit_slurm, ray). Eight jobs that train everything on thirty images of each class; each
way twice, in turn, the faster one counts. With other numbers of threads sums are rounded in other ways.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
JOBS = ["backbone.image_size=96", "data.max_per_class=30", "strategy=finetune_all", "optimizer.lr=3e-4,1e-3",
        "seed=0,1,2,3", "trainer.max_epochs=3", "report=false"]  # fmt: skip


def swept(folder: Path, *words: str) -> float:
    """Wall seconds of a sweep."""
    began = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), "-m", *words, f"hydra.sweep.dir={folder}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def board(folder: Path) -> dict[str, float]:
    """The mean accuracy of every configuration."""
    with (folder / "leaderboard.csv").open(newline="") as file:
        return {row["optimizer.lr"]: float(row["val/accuracy"]) for row in csv.DictReader(file)}


def main() -> None:
    """Print a line for each launcher."""
    folder, weights, *launchers = [*sys.argv[1:], *("", "DEFAULT", "joblib")[len(sys.argv) - 1 :]]
    given = [f"data.root={folder}", "backbone=mobilenet_v2", f"backbone.weights={weights}", *JOBS]
    ways = {name: [f"hydra/launcher={name}"] for name in ("basic", *launchers)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(2):
            for name, words in ways.items():
                seconds[name].append(swept(Path(scratch, f"{name}{turn}"), *given, *words))
        boards = {name: board(Path(scratch, f"{name}0")) for name in ways}
    for name, taken in seconds.items():
        ratio = min(seconds["basic"]) / min(taken)
        apart = max(abs(score - boards["basic"][rate]) for rate, score in boards[name].items())
        print(f"{name:16} {min(taken):6.0f} s {ratio:5.2f}x  accuracies differ by at most {apart:.4f}")


if __name__ == "__main__":
    main()
