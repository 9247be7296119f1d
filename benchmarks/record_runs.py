"""Trains a fixed set of small seeded runs and writes down what each of them was, for comparing two states of the code.

python benchmarks/record_runs.py OUT.json                  # train and record
python benchmarks/record_runs.py OUT.json --beside OLD.json  # and list what differs; exit code 1 if something does

Every strategy on the embedded digits; a folder of images, cached and not; regularizers and optimizers; texts of one and
of several classes; a run that is stopped and resumed; one on two processes. Of each run all numbers of metrics.csv and
metrics.json (seconds aside) and the digest of model.safetensors are kept. One thread, so that equal code gives equal
bits on one machine.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAIN = Path("train.py")
QUICK = ["trainer=cpu", "++callbacks.progress=null", "backbone.image_size=32", "trainer.max_epochs=2"]
DIGITS = [*QUICK, "data.max_per_class=6", "data.batch_size=16", "data.workers=0"]
STRATEGIES = (
    "strategy=auto,bitfit,early_features,feature_extraction,finetune_all,finetune_top,linear_probe,lora,lp_ft,norm_only"
)
WORDS = "good bad fine awful film book was not very the quick brown fox".split()


def sweeps(folder: Path) -> dict[str, list[str]]:
    """Words of every sweep, by its name."""
    photos = [*QUICK, f"data.root={folder}/photos", "data.batch_size=8", "data.workers=0"]
    texts = ["trainer=cpu", "++callbacks.progress=null", "trainer.max_epochs=2", "backbone=text",
             f"backbone.name={folder}/model", "backbone.length=16", "data.batch_size=8"]  # fmt: skip
    several = [*texts, f"data.file={folder}/several.csv", "data.separator=bar", "label_smoothing=0"]
    return {
        "strategies": [*DIGITS, STRATEGIES],
        "gradual": [*DIGITS, "strategy=gradual_unfreeze", "trainer.max_epochs=6", "seed=0,1"],
        "cached": [*photos, "strategy=finetune_top,feature_extraction", "cache=auto,off,2", "seed=1"],
        "augmented": [*photos, "strategy=finetune_all", "augment=none,light,standard,strong", "data.sampler=balanced"],
        "weighted": [*photos, "strategy=finetune_all", "data.class_weights=auto", "head=linear,mlp,cosine"],
        "regularized": [*photos, "strategy=finetune_all,lp_ft", "regularizer=l2_sp,delta,bss", "strategy.norm=eval"],
        "optimizers": [*photos, "strategy=finetune_all", "optimizer=sgd,sam", "callbacks=default,ema"],
        "texts": [*texts, f"data.file={folder}/texts.csv", "strategy=linear_probe,lp_ft,finetune_top,lora"],
        "plain_texts": [*texts, f"data.file={folder}/texts.csv", "data.buckets=false", "strategy=finetune_all"],
        "several": [*several, "strategy=linear_probe,finetune_top,finetune_all"],
    }


def write_inputs(folder: Path) -> None:
    """Photographs of three grey levels, texts of one and of several classes, a language model of four words' width."""
    noise = np.random.default_rng(0)
    for label, level in {"dark": 60, "grey": 120, "light": 190}.items():
        (folder / "photos" / label).mkdir(parents=True)
        for i in range({"dark": 20, "grey": 14, "light": 26}[label]):
            pixels = np.clip(level + noise.integers(-60, 60, (40, 44, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{i:02d}.png")
    rows = [[" ".join(noise.choice(WORDS, 3 + i % 9)), ("yes", "no")[i % 2]] for i in range(60)]
    named = ["a|b", "a", "b|c", "", "c"]
    for name, labels in {"texts": [r[1] for r in rows], "several": [named[i % 5] for i in range(60)]}.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            writer.writerows((text, label) for (text, _), label in zip(rows, labels, strict=True))
    command = "import sys; from pathlib import Path; from tests.zoo import save_language_model as save; "
    run([sys.executable, "-c", command + f"save(Path({str(folder / 'model')!r}), weights=True)"])


def run(command: list[str]) -> None:
    """A command in an environment of one thread; its output is shown if it fails."""
    said = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **said})
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout}\n{result.stderr}")


def recorded(folder: Path) -> dict[str, Any]:
    """All numbers of a run, and the digest of its weights."""
    with (folder / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    metrics = json.loads((folder / "metrics.json").read_text())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    kept = {k: v for k, v in metrics.items() if not k.startswith("seconds/")}
    return {"epochs": rows, "metrics": kept, "model": digest}


def record() -> dict[str, Any]:
    """Train everything; what each run was, by its name."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["TL_CACHE"] = f"{scratch}/cache"
        write_inputs(folder)
        for name, words in sweeps(folder).items():
            run([sys.executable, str(TRAIN), "-m", *words, f"hydra.sweep.dir={folder}/{name}"])
            for job in sorted((folder / name).glob("*/metrics.json"), key=lambda p: int(p.parent.name)):
                found[f"{name}/{job.parent.name}"] = recorded(job.parent)
            print(f"{name}: {len([k for k in found if k.startswith(name + '/')])} runs", flush=True)
        single = [sys.executable, str(TRAIN), *QUICK, f"data.root={folder}/photos", "data.batch_size=8"]
        run([*single, "data.workers=0", "trainer.max_epochs=1", f"hydra.run.dir={folder}/resumed"])
        run([sys.executable, str(TRAIN), f"resume={folder}/resumed", "trainer.max_epochs=3"])
        found["resumed"] = recorded(folder / "resumed")
        two = [
            "trainer=ddp",
            "trainer.accelerator=cpu",
            "trainer.devices=2",
            "strategy=lp_ft",
            "strategy.head_epochs=1",
        ]
        run([*single, "data.workers=0", *two, f"hydra.run.dir={folder}/two"])
        found["two_processes"] = recorded(folder / "two")
    return found


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Runs that are missing or differ, and in what."""
    lines = [f"{name}: in one file only" for name in sorted(old.keys() ^ new.keys())]
    for name in sorted(old.keys() & new.keys()):
        a, b = old[name], new[name]
        if a["model"] != b["model"]:
            lines.append(f"{name}: other weights")
        rows = [k for x, y in zip(a["epochs"], b["epochs"], strict=False) for k in x.keys() | y.keys()
                if x.get(k) != y.get(k)]  # fmt: skip
        keys = [k for k in a["metrics"] if a["metrics"][k] != b["metrics"].get(k)]  # not what is new
        for what in sorted({*rows, *keys}):
            lines.append(f"{name}: {what} {a['metrics'].get(what, '')} {b['metrics'].get(what, '')}")
        if len(a["epochs"]) != len(b["epochs"]):
            lines.append(f"{name}: {len(a['epochs'])} rows of metrics.csv, now {len(b['epochs'])}")
    return lines


def main() -> None:
    """Record, and compare if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--beside", type=Path)
    told = parser.parse_args()
    found = record()
    told.out.write_text(json.dumps(found, indent=1))
    print(f"{len(found)} runs: {told.out}")
    if told.beside:
        lines = differences(json.loads(told.beside.read_text()), found)
        print("\n".join(lines) or "all equal")
        sys.exit(bool(lines))


if __name__ == "__main__":
    main()
