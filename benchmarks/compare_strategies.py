"""Strategies side by side: accuracy by data set, weights and images per class.

python benchmarks/compare_strategies.py --data DATA --weights IMAGENET.safetensors --kept scores.json

DATA holds the folders hymenoptera, sign_digits and cifar10_small; digits come with the package. The network is
MobileNetV2. Every method sees the same images for as many epochs; the score is that of the last epoch, on images that
no method has seen. `--kept FILE` writes scores down as they are found and does not find them twice.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

import argparse
import json
import math
import multiprocessing
import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

STRATEGIES = (
    "feature_extraction", "linear_probe", "early_features", "finetune_top", "gradual_unfreeze", "finetune_all", "lp_ft",
)  # fmt: skip
FLAT = ("strategy=finetune_all", "strategy.decay=1")
METHODS = {name: (f"strategy={name}",) for name in STRATEGIES} | {
    "finetune_all_flat": FLAT,
    "auto": ("strategy=auto",),
    "co_tuning": ("strategy=finetune_all", "regularizer=co_tuning"),
    "co_tuning_flat": (*FLAT, "regularizer=co_tuning", "regularizer.strength=1"),
    "co_tuning_sam": (*FLAT, "regularizer=co_tuning", "regularizer.strength=1", "optimizer=sam"),
    "flat_sam": (*FLAT, "optimizer=sam"),
    "flat_taps": (*FLAT, "strategy.taps=true"),
    "flat_taps_sam": (*FLAT, "strategy.taps=true", "optimizer=sam"),
    "lwf": ("strategy=finetune_all", "regularizer=lwf"),
}
FASTAI = "fastai fine_tune"
SIZES = {"hymenoptera": 96, "sign_digits": 64, "cifar10_small": 64, "digits": 48}  # pixels


@dataclass(frozen=True)
class Cell:
    """Data, weights and number of images per class (0: all)."""

    data: str
    weights: str
    per_class: int

    def __str__(self) -> str:
        return f"{self.data} {self.weights} {self.per_class or 'all'}"


# What is measured unless cells are named: similar and different data, few images and many.
CELLS = (
    *(Cell("cifar10_small", "imagenet", n) for n in (10, 50)),
    *(Cell(data, "imagenet", 10) for data in ("sign_digits", "digits", "hymenoptera")),
    Cell("hymenoptera", "imagenet", 100),
    Cell("sign_digits", "formula", 10),
    Cell("digits", "formula", 100),
)


def epochs(images: int) -> int:
    """About 2,000 images are seen, in 6 to 20 epochs."""
    return max(6, min(20, round(2000 / images)))


def words(cell: Cell, method: str, seed: int, data: Path | None, weights: str) -> list[str]:
    """The run on the command line."""
    source = ["data=digits"] if cell.data == "digits" else ["data=image_folder", f"data.root={data}/{cell.data}"]
    if cell.data == "sign_digits":
        source.append("data.test_fraction=0.2")
    if cell.data in ("sign_digits", "cifar10_small"):
        source.append("data.val_fraction=0.02")  # each epoch looks at it, nothing is chosen by it
    return [
        "backbone=mobilenet_v2", f"backbone.weights={weights if cell.weights == 'imagenet' else cell.weights}",
        f"backbone.image_size={SIZES[cell.data]}", *source, "data.batch_size=16", "data.workers=0",
        f"data.max_per_class={cell.per_class or 'null'}", f"seed={seed}", f"data.split_seed={seed}",
        "trainer=cpu", "callbacks=none", "logger=none", *METHODS[method],
    ]  # fmt: skip


def score(cell: Cell, method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The run's metrics."""
    import logging
    import warnings

    import torch

    from tl_lightning.config.compose import composed
    from tl_lightning.config.settings import settings_of
    from tl_lightning.data import splits
    from tl_lightning.data.images import image_folder
    from tl_lightning.data.splits import SplitOptions
    from tl_lightning.jobs.train import train

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    ours = "finetune_all" if method == FASTAI else method
    with tempfile.TemporaryDirectory() as scratch:
        values = composed(words(cell, ours, seed, options.data, options.weights), scratch)
        data = values["data"]
        divided = {k: data[k] for k in ("val_fraction", "test_fraction", "max_per_class")}
        folder = image_folder.read(data["root"], division=SplitOptions(**divided, split_seed=seed))
        length = values["trainer"]["max_epochs"] = options.epochs or epochs(sum(folder.counts("train")))
        if method == FASTAI:
            splits.write(folder.items, Path(scratch, "splits.csv"))
            said = [data["root"], f"{scratch}/splits.csv", options.weights, SIZES[cell.data], length]
            said += [seed, data["flip"], f"{scratch}/accuracy"]
            script = Path(__file__).with_name("compare_fastai.py")
            subprocess.run([options.peers, script, *map(str, said)], check=True, capture_output=True)
            return {"accuracy": float(Path(scratch, "accuracy").read_text())}
        metrics = train(settings_of(values))
    found = {k: v for k, v in metrics.items() if isinstance(v, (int, float))}
    return {"accuracy": metrics.get("test/accuracy", metrics["val/accuracy"]), **found}


class Scores:
    """Metrics by cell, method and seed, kept in a file if one is named."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path and path.exists() else {}

    def find(self, jobs: list[tuple[Cell, str, int]], options: argparse.Namespace) -> None:
        """Run what is not known yet, `options.jobs` at a time."""
        missing = [job for job in jobs if key(*job, options.epochs) not in self.known]
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.jobs, spawn) as pool:
            waiting = {pool.submit(score, *job, options): job for job in missing}
            for number, done in enumerate(as_completed(waiting), 1):
                name = key(*waiting[done], options.epochs)
                if done.exception():  # now, and not when all others are done, whose scores would be lost
                    pool.shutdown(cancel_futures=True)
                self.known[name] = done.result()
                print(f"{number}/{len(missing)} {name} {done.result()['accuracy']:.4f}", flush=True)
                if self.path:
                    self.path.write_text(json.dumps(self.known, indent=1))


def key(cell: Cell, method: str, seed: int, length: int | None = None) -> str:
    """The name of a job; `length` in epochs, if it is another than suits the number of images."""
    return f"{cell} {method} {seed}" + (f" of {length} epochs" if length else "")


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (Student's t); of one value, not a number."""
    from scipy.stats import t

    n = len(values)
    half = float(t.ppf(0.975, n - 1) * stdev(values) / n**0.5) if n > 1 else float("nan")
    return mean(values), half


def by_cell(scores: Scores) -> dict[str, dict[str, list[float]]]:
    """Accuracies in per cent, by cell and method, over seeds."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, metrics in scores.known.items():
        told = re.fullmatch(r"(\S+ \S+ \S+) (.+?) (\d+)( of \d+ epochs)?", name)
        assert told, name
        found.setdefault(told[1] + (told[4] or ""), {}).setdefault(told[2], []).append(100 * metrics["accuracy"])
    return found


def tables(scores: Scores) -> str:
    """Per cent, means and half widths of 95 % intervals over seeds; then the regret of each method."""
    found = by_cell(scores)
    methods = list(dict.fromkeys(m for row in found.values() for m in row))
    lines = ["| data, weights, images per class | " + " | ".join(methods) + " |", "|" + " --- |" * (len(methods) + 1)]
    for cell, row in found.items():
        best = max(mean(v) for v in row.values())
        lines.append(f"| {cell} | " + " | ".join(_cell(row.get(m), best) for m in methods) + " |")
    whole = [m for m in methods if all(m in row for row in found.values())]
    fixed = [m for m in whole if m != "auto"]
    regret = {m: mean(max(mean(row[f]) for f in fixed) - mean(row[m]) for row in found.values()) for m in whole}
    lines += ["", "| method | mean regret against the best fixed one |", "| --- | --- |"]
    lines += [f"| {m} | {regret[m]:.2f} |" for m in sorted(whole, key=lambda m: regret[m])]
    return "\n".join(lines)


def picture(scores: Scores, path: Path) -> None:
    """Means with their intervals against images per class, a panel for each data set and weights."""
    from matplotlib.figure import Figure

    found = by_cell(scores)
    methods = list(dict.fromkeys(m for row in found.values() for m in row))
    panels: dict[str, dict[str, dict[str, list[float]]]] = {}
    for cell, row in found.items():
        name, _, size = cell.partition(" of ")[0].rpartition(" ")
        panels.setdefault(name, {})[size] = row
    across = math.ceil(len(panels) ** 0.5)
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(5 * across, 4 * down + 0.5), dpi=110, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flat
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, rows) in zip(axes, panels.items(), strict=False):
        sizes = sorted(rows, key=lambda size: float("inf") if size == "all" else int(size))
        for number, method in enumerate(methods):
            known = [(i, *interval(rows[s][method])) for i, s in enumerate(sizes) if method in rows[s]]
            if known:
                places, middles, halves = zip(*known, strict=True)
                apart = [p + 0.06 * (number - len(methods) / 2) for p in places]  # intervals side by side
                look = {"color": f"C{number % 10}", "marker": "os^"[number // 10], "markersize": 4}
                axis.errorbar(apart, middles, halves, capsize=2, label=method, **look)
        axis.set_xticks(range(len(sizes)), labels=sizes)
        axis.set(title=name, xlabel="images per class", ylabel="accuracy, per cent")
        axis.grid(alpha=0.3)
    shown = {label: line for axis in figure.axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=5, fontsize=9)
    figure.savefig(path)


def _cell(values: list[float] | None, best: float) -> str:
    if not values:
        return ""
    middle, half = interval(values)
    text = f"{middle:.1f}" + (f" ±{half:.1f}" if len(values) > 1 else "")
    return f"**{text}**" if middle == best else text


def main() -> None:
    """Run all, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", help="MobileNetV2 of ImageNet")
    parser.add_argument("--kept", type=Path, metavar="FILE")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*STRATEGIES, "finetune_all_flat", "auto"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cells", nargs="+", metavar="DATA:WEIGHTS:PER_CLASS", default=[])
    parser.add_argument("--epochs", type=int, help="instead of those that suit the number of images")
    parser.add_argument("--peers", metavar="PYTHON", help="of an environment with fastai: its fine_tune is run as well")
    parser.add_argument("--picture", type=Path, metavar="PNG")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    options = parser.parse_args()
    cells = list(chosen(options.cells)) or list(CELLS)
    methods = [*options.methods, *([FASTAI] if options.peers else [])]
    scores = Scores(options.kept)
    scores.find([(c, m, s) for s in options.seeds for c in cells for m in methods if fits(c, m)], options)
    print(tables(scores))
    if options.picture:
        picture(scores, options.picture)


def fits(cell: Cell, method: str) -> bool:
    """Fastai is given ImageNet weights alone."""
    return method != FASTAI or cell.weights == "imagenet"


def chosen(said: list[str]) -> Iterator[Cell]:
    """Cells from words like cifar10_small:imagenet:10 (0: all)."""
    for word in said:
        data, weights, per_class = word.split(":")
        yield Cell(data, weights, int(per_class))


if __name__ == "__main__":
    main()
