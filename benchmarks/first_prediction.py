"""Seconds from a new process to a prediction, beside importing torch and torchvision alone.

python benchmarks/first_prediction.py RUN IMAGE
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

ROUNDS = 7  # of which the first warms up


def seconds(code: str) -> float:
    """Of one process that runs it."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Alternate both, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("image")
    told = parser.parse_args()
    code = {
        "torch, torchvision": "import tl_lightning, torch, torchvision",
        "tl.load(run).predict(image)": f"import tl_lightning as tl; tl.load({told.run!r}).predict({told.image!r})",
    }
    taken: dict[str, list[float]] = {name: [] for name in code}
    for _ in range(ROUNDS):
        for name, text in code.items():
            taken[name].append(seconds(text))
    found = {name: median(times[1:]) for name, times in taken.items()}
    first = next(iter(found.values()))
    print("| | seconds | |\n|---|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:.1f} | {value / first:.2f}x |")


if __name__ == "__main__":
    main()
