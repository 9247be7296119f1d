"""What `plan=true` says that a run will take, against what it then takes: seconds, memory, disk.

    python benchmarks/price.py FOLDER [WEIGHTS] [WORD ...]

FOLDER: of images by class; WEIGHTS: of MobileNetV2, a file (default: its own). Each strategy is priced in a process
of its own and trained in another, with an empty cache. Seconds are those of the run itself, without the start
of Python and the import of torch; the report is among them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

STRATEGIES = ("linear_probe", "feature_extraction", "early_features", "finetune_top", "gradual_unfreeze", "lp_ft")
PRICED = """
import json, sys, tempfile
from tl_lightning import machine
machine.set_threads()
from tl_lightning.config.compose import composed
from tl_lightning.config.settings import settings_of
from tl_lightning.config.words import arguments
from tl_lightning.jobs.price import price
with tempfile.TemporaryDirectory() as scratch:
    found, _ = price(settings_of(composed(arguments(sys.argv[1:]), scratch)))
print(json.dumps([found.seconds, found.memory, found.disk, found.cache]))
"""
TRAINED = """
import json, sys, time
from tl_lightning import machine
machine.set_threads()
from tl_lightning.config.compose import composed
from tl_lightning.config.settings import settings_of
from tl_lightning.config.words import arguments
from tl_lightning.jobs.train import train
settings = settings_of(composed(arguments(sys.argv[2:]), sys.argv[1]))
began = time.perf_counter()
metrics = train(settings)
print(json.dumps([time.perf_counter() - began, metrics["memory/host"]]))
"""


def told(program: str, *words: str, cache: str) -> list[float]:
    """The last line of a program in a process of its own."""
    made = subprocess.run(
        [sys.executable, "-c", program, *words], check=True, capture_output=True, text=True,
        env={**os.environ, "TL_CACHE": cache},
    )  # fmt: skip
    found: list[float] = json.loads(made.stdout.strip().splitlines()[-1])
    return found


def size(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Print a line for each strategy."""
    folder, weights, *more = [*sys.argv[1:], *(["DEFAULT"] if len(sys.argv) == 2 else [])]
    given = [f"data.root={folder}", "backbone=mobilenet_v2", f"backbone.weights={weights}", *more]
    print(f"{'strategy':20} {'seconds: said':>14} {'taken':>6} {'ratio':>6} {'MB: said':>10} {'taken':>6} {'ratio':>6} "
          f"{'disk, MB: said':>15} {'taken':>6}")  # fmt: skip
    for strategy in STRATEGIES:
        with tempfile.TemporaryDirectory() as scratch:
            words = [*given, f"strategy={strategy}"]
            seconds, memory, disk, cache = told(PRICED, *words, cache=f"{scratch}/a")
            taken, peak = told(TRAINED, f"{scratch}/run", *words, cache=f"{scratch}/b")
            written = size(Path(scratch, "run")) + size(Path(scratch, "b"))
        times = f"{seconds:14.1f} {taken:6.1f} {seconds / taken:6.2f}"
        sizes = f"{memory / 1e6:10.0f} {peak / 1e6:6.0f} {memory / peak:6.2f}"
        print(f"{strategy:20} {times} {sizes} {(disk + cache) / 1e6:15.1f} {written / 1e6:6.1f}", flush=True)


if __name__ == "__main__":
    main()
