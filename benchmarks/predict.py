"""Predictions for many images against a plain loop in PyTorch: images a second, memory, and rows for broken files.

    python benchmarks/predict.py RUN PHOTOS [NUMBER]

Of the JPEGs below PHOTOS, NUMBER files (10,000 if it is not said) are made in a temporary folder, every twentieth of
them cut off in the middle. The plain loop is what people write: torchvision's transforms, a DataLoader with as many
workers as there are cores, the network in evaluation mode, on the files that are whole.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import csv
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tl_lightning as tl  # first: it lets torchvision be imported

import torch  # isort: skip
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from tl_lightning.data.images.transforms import eval_transform


class Plain(Dataset[torch.Tensor]):
    """Files through the transform of evaluation."""

    def __init__(self, files: list[str], run: tl.Run) -> None:
        self.files, self.transform = files, eval_transform(run.model.backbone.input)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[place]).convert("RGB"))


def plain_loop(run: tl.Run, files: list[str]) -> None:
    """What people write."""
    network, normalise = run.model.network, run.model.backbone.input.normalise
    with torch.no_grad():
        for images in DataLoader(Plain(files, run), batch_size=32, num_workers=os.cpu_count() or 1):
            network(normalise(images)).softmax(1)


def timed(what: str, number: int, work: Callable[[], object]) -> None:
    """A row of the table."""
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"| {what} | {number} | {number / seconds:.0f} | {memory:.0f} |", flush=True)


def main() -> None:
    """Print the table."""
    run, photos = tl.load(sys.argv[1]), sorted(p for p in Path(sys.argv[2]).rglob("*.jpg"))
    number = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
    with tempfile.TemporaryDirectory() as scratch:
        whole = []
        for i in range(number):
            file, source = Path(scratch, f"{i:06}.jpg"), photos[i % len(photos)]
            if i % 20 == 19:
                file.write_bytes(source.read_bytes()[:2000])
            else:
                file.symlink_to(source.resolve())
                whole.append(str(file))
        print("| what | images | images a second | MB at most, this process |\n| --- | --- | --- | --- |")
        for count in (number // 4, number):
            some = [f"{scratch}/{i:06}.jpg" for i in range(count)]
            for engine in ("eager", "auto"):
                out = Path(scratch, "out.csv")
                timed(f"write_predictions, engine={engine}", count,
                      lambda s=some, o=out, e=engine: run.write_predictions(s, o, engine=e))  # fmt: skip
        with out.open(newline="") as file:
            rows = list(csv.DictReader(file))
        print(f"rows {len(rows)}, of which {sum(bool(row['error']) for row in rows)} say why a file could not be read")
        timed("plain loop", len(whole), lambda: plain_loop(run, whole))


if __name__ == "__main__":
    main()
