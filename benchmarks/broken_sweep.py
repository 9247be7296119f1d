"""A sweep that is killed again and again, against one that is left alone: the same runs, the same leaderboard.

    python benchmarks/broken_sweep.py [KILLS] [SEED]

Eight jobs on the embedded digits, two strategies, two rates and two seeds. The process is killed (SIGKILL) at KILLS (5)
moments drawn evenly over the time that is left, and told each time to go on. Compared are all numbers of all runs but
seconds and memory, and the leaderboard.
"""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORDS = ["backbone.image_size=32", "data=digits", "data.max_per_class=10", "strategy=lp_ft,finetune_all", "seed=0,1",
         "optimizer.lr=1e-3,3e-4", "trainer.max_epochs=4", "report=false", "callbacks.progress=null"]  # fmt: skip
APART = ("seconds", "memory", "images_per_second")


def begun(*words: str) -> subprocess.Popen[bytes]:
    """A sweep's process."""
    command = [sys.executable, str(ROOT / "train.py"), "-m", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def numbers(sweep: Path) -> dict[str, dict[str, object]]:
    """What every run says of itself."""
    found = {}
    for file in sorted(sweep.glob("*/metrics.json")):
        values = json.loads(file.read_text())
        found[file.parent.name] = {k: v for k, v in values.items() if not k.startswith(APART)}
    return found


def board(sweep: Path) -> list[dict[str, str]]:
    """The leaderboard's numbers."""
    with (sweep / "leaderboard.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "leads" and not k.startswith(APART)}
                for row in csv.DictReader(file)]  # fmt: skip


def main() -> None:
    """Print what came of it."""
    kills, seed = (int(word) for word in [*sys.argv[1:], *("5", "0")[len(sys.argv) - 1 :]])
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        whole, broken = Path(scratch, "whole"), Path(scratch, "broken")
        began = time.monotonic()
        begun(*WORDS, f"hydra.sweep.dir={whole}").wait()
        seconds = time.monotonic() - began
        print(f"left alone: {len(numbers(whole))} runs in {seconds:.0f} s")
        words = [*WORDS, f"hydra.sweep.dir={broken}"]
        for _ in range(kills):
            process = begun(*words)
            after = draw.uniform(5, max(8.0, seconds / 2))
            time.sleep(after)
            process.kill()
            process.wait()
            print(f"killed after {after:.0f} s: {len(numbers(broken))} runs are done", flush=True)
            words = [f"sweep={broken}"]
        code = begun(*words).wait()
        print(f"gone on with to its end: exit code {code}, {len(numbers(broken))} runs")
        print(f"runs equal: {numbers(whole) == numbers(broken)}; leaderboard equal: {board(whole) == board(broken)}")


if __name__ == "__main__":
    main()
