"""A table of 200,000 images: seconds from the command to its end after one step, and memory.

    python benchmarks/manifest_scale.py photos/ [rows=200000]

The table names links to the images below `photos/`, in folders of a thousand; labels are those of their folders. Cold,
with every file looked at, and again.
"""

from __future__ import annotations

import csv
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = Path(__file__).parents[1] / "train.py"


def table(source: Path, folder: Path, rows: int) -> Path:
    """The links, and the table that names them."""
    images = sorted(p for p in source.rglob("*") if p.suffix.lower() in (".jpg", ".png"))
    with (folder / "table.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "label"])
        for i, image in zip(range(rows), itertools.cycle(images), strict=False):
            link = folder / f"{i // 1000:03d}" / f"{i:06d}{image.suffix}"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(image.resolve())
            out.writerow([link.relative_to(folder), image.parent.name])
    return folder / "table.csv"


def main() -> None:
    """Two lines of a table."""
    rows = next((int(w.partition("=")[2]) for w in sys.argv[2:] if w.startswith("rows=")), 200_000)
    print("| rows | when | seconds | peak memory |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = table(Path(sys.argv[1]), folder, rows)
        env = {**os.environ, "TL_CACHE": str(folder / "cache"), "TL_REPORT": "false"}
        words = [f"data.file={file}", "backbone=mobilenet_v2", "backbone.weights=null", "backbone.image_size=32",
                 "strategy=finetune_all", "cache=off", "data.cache=off", "trainer=cpu", "trainer.max_epochs=1",
                 "+trainer.limit_train_batches=1", "+trainer.limit_val_batches=1"]  # fmt: skip
        for when in ("cold", "again"):
            began = time.perf_counter()
            out = [f"hydra.run.dir={folder / when}"]
            subprocess.run([sys.executable, str(TRAIN), *words, *out], check=True, env=env, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
            print(f"| {rows} | {when} | {seconds:.0f} | {peak:.1f} GB |", flush=True)


if __name__ == "__main__":
    main()
