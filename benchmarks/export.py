"""Exported files of every family against their networks: how far they are off, their size and their time on a CPU.

    python benchmarks/export.py DATA [backbone ...] [format=A,B] [WORD ...]

Each network gets an exact head on the images of DATA; other words are those of the command line. Without words the
networks have random weights, whose answers 8 bits may change as those of pretrained ones are not changed. Times are
medians of 20 single images on one thread.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tl_lightning as tl  # first: it lets torchvision be imported

import torch  # isort: skip
import yaml

from tl_lightning.errors import UserError
from tl_lightning.jobs.export_formats import FORMATS, Pipeline, batches_of

FAMILIES = ("alexnet", "vgg16", "resnet50", "inception_v3", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0",
            "densenet121", "convnext_tiny", "regnet_y_400mf", "shufflenet_v2_x1_0", "mnasnet1_0", "googlenet",
            "vit_b_16", "swin_t")  # fmt: skip


def milliseconds(run: Callable[[], object]) -> float:
    """The median of 20 calls."""
    run()
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds)


def row(run: tl.Run, name: str, kind: str) -> str:
    """Of the table."""
    judge = run._judge()
    pipeline = Pipeline(run.model).eval()
    single = tuple(part[:1] for part in batches_of(judge, "val", 1)[0])
    with torch.no_grad():
        eager = milliseconds(lambda: pipeline(*single))
        try:
            found = run.export(kind)
        except UserError as error:
            return f"| {name} | {kind} | refused: {str(error)[-90:]} | | | | | {eager:.1f} |"
        session = FORMATS[kind].open(found.path, pipeline)
        arrays = [part.numpy() for part in single]
        took = milliseconds(lambda: session(*arrays))
    score = f"{found.score[1]:.3f} {found.score[2]:.3f}"
    return (
        f"| {name} | {kind} | {found.difference:.0e} | {found.agreement:.3f} | {score} | {found.size / 1e6:.1f} | "
        f"{took:.1f} | {eager:.1f} |"
    )


def main() -> None:
    """Print the table."""
    logging.disable(logging.INFO)
    data, *said = sys.argv[1:]
    words = {key: yaml.safe_load(value) for key, _, value in (w.partition("=") for w in said if "=" in w)}
    formats = str(words.pop("format", ",".join(FORMATS))).split(",")
    names = [w for w in said if "=" not in w] or FAMILIES
    print(
        "| network | format | greatest difference | answers that agree | accuracy before, after | MB | ms | ms, eager |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            chosen = {"strategy": "linear_probe", "logger": "none", "callbacks": "none", **words}
            if not words:
                chosen |= {"backbone.weights": None, "backbone.image_size": 96, "data.max_per_class": 10}
            run = tl.train(data, backbone=name, run_dir=Path(folder, "run"), **chosen)
            for kind in formats:
                print(row(run, name, kind), flush=True)


if __name__ == "__main__":
    main()
