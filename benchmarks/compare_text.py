"""Strategies on a file of texts beside TF-IDF with logistic regression: accuracy and macro-F1 by texts per class.

python benchmarks/compare_text.py FILE [--backbone minilm] [--kept scores.json]

A fifth of the texts is held out to be judged by; the rest, or so many of each class, are trained on. `--kept FILE`
writes scores down as they are found and does not find them twice. `--pace` measures batches of one length instead.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_WAIT_POLICY": "PASSIVE"}

import argparse
import json
import logging
import tempfile
import time
import warnings
from pathlib import Path
from statistics import mean, median
from typing import Any

METHODS = {
    "linear_probe": ["strategy=linear_probe"],
    "linear_probe, last layer": ["strategy=linear_probe", "strategy.taps=false"],
    "lp_ft": ["strategy=lp_ft"],
    "lp_ft, last layer": ["strategy=lp_ft", "strategy.taps=false"],
    "finetune_top": ["strategy=finetune_top", "strategy.stages=2"],
    "lora": ["strategy=lora"],
}
TFIDF = "TF-IDF, logistic regression"


def settings(options: argparse.Namespace, words: list[str], run_dir: str) -> Any:
    """What a run is told; nothing is chosen by validation texts."""
    from tl_lightning.config.compose import composed
    from tl_lightning.config.settings import settings_of

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    base = [f"backbone={options.backbone}", "data=text_csv", f"data.file={options.file}", "data.val_fraction=0.005",
            "data.test_fraction=0.2", "trainer=cpu", "callbacks=none", "logger=none"]  # fmt: skip
    return settings_of(composed([*base, *words], run_dir))


def held_out(file: Path, per_class: int | None, seed: int) -> Any:
    """The texts as runs divide them."""
    from tl_lightning.data.splits import SplitOptions
    from tl_lightning.data.texts import text_table

    division = SplitOptions(val_fraction=0.005, test_fraction=0.2, max_per_class=per_class, split_seed=seed)
    return text_table.read(str(file), division=division)


def epochs(texts: int) -> int:
    """Few texts are seen more often: about 60 steps of 16, at least two epochs."""
    return max(2, min(30, round(960 / texts)))


def ours(options: argparse.Namespace, method: str, per_class: int | None, seed: int) -> dict[str, float]:
    """Scores of a run's last weights, and its seconds after start-up."""
    from tl_lightning.jobs.train import train

    count = sum(held_out(options.file, per_class, seed).counts("train"))
    words = [f"data.max_per_class={per_class or 'null'}", f"seed={seed}", f"data.split_seed={seed}",
             f"trainer.max_epochs={epochs(count)}", f"data.batch_size={min(16, count)}"]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        metrics = train(settings(options, [*words, *METHODS[method]], scratch))
    return {"accuracy": metrics["test/accuracy"], "f1": metrics["test/macro_f1"], "seconds": metrics["seconds/total"]}


def tfidf(options: argparse.Namespace, per_class: int | None, seed: int) -> dict[str, float]:
    """Words and pairs of words, the penalty chosen by cross-validation."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    table = held_out(options.file, per_class, seed)
    (x, y), (judged, truth) = (([t for (t,), _ in table.split(s)], table.targets(s)) for s in ("train", "test"))
    began = time.perf_counter()
    words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=2000))
    penalties = {"logisticregression__C": [0.1, 1, 10, 100, 1000, 10000]}
    model = GridSearchCV(words, penalties, cv=min(5, *table.counts("train"))).fit(x, y)
    found = model.predict(judged)
    seconds = time.perf_counter() - began
    return {"accuracy": accuracy_score(truth, found), "f1": f1_score(truth, found, average="macro"), "seconds": seconds}


def scores(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """By "method, texts per class, seed"."""
    known: dict[str, dict[str, float]] = (
        json.loads(options.kept.read_text()) if options.kept and options.kept.exists() else {}
    )
    for seed in options.seeds:
        for per_class in options.sizes:
            for method in (TFIDF, *options.methods):
                key = f"{method}|{per_class or 'all'}|{seed}"
                if key in known:
                    continue
                size = per_class or None
                known[key] = tfidf(options, size, seed) if method == TFIDF else ours(options, method, size, seed)
                print(key, {k: round(v, 4) for k, v in known[key].items()}, flush=True)
                if options.kept:
                    options.kept.write_text(json.dumps(known, indent=1))
    return known


def table(known: dict[str, dict[str, float]]) -> str:
    """Accuracy / macro-F1 in per cent, means over seeds and the lowest and highest accuracy; seconds of all texts."""
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    for key, found in known.items():
        method, size, _ = key.split("|")
        rows.setdefault(method, {}).setdefault(size, []).append(found)
    sizes = list(dict.fromkeys(key.split("|")[1] for key in known))
    lines = ["| method | " + " | ".join(f"{s} per class" for s in sizes) + " | seconds, most texts |"]
    lines.append("|" + " --- |" * (len(sizes) + 2))
    for method, row in rows.items():
        cells = [_cell(row[s]) if s in row else "" for s in sizes]
        seconds = mean(f["seconds"] for f in row[sizes[-1]]) if sizes[-1] in row else float("nan")
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return "\n".join(lines)


def _cell(found: list[dict[str, float]]) -> str:
    accuracy, f1 = ([100 * f[k] for f in found] for k in ("accuracy", "f1"))
    return f"{mean(accuracy):.1f} ({min(accuracy):.1f}-{max(accuracy):.1f}) / {mean(f1):.1f}"


def pace(options: argparse.Namespace) -> str:
    """Texts a second through training's forward and backward pass, batches of one length against batches as drawn."""
    from tl_lightning.build import gather

    lines, taken = [], {}
    for name, words in {"of one length": [], "as drawn": ["data.buckets=false"]}.items():
        backbone, data, _ = gather(settings(options, ["data.batch_size=32", *words], "."))
        loader = data.train_dataloader()
        batches = list(loader)
        masks = [batch.inputs["attention_mask"] for batch in batches]
        padding = sum(mask.numel() for mask in masks) / sum(int(mask.sum()) for mask in masks)
        taken[name] = (backbone.train(), batches, padding)
    seconds: dict[str, list[float]] = {name: [] for name in taken}
    for _ in range(3):  # alternating: the machine's noise is shared
        for name, (backbone, batches, _) in taken.items():
            some = batches[:: max(1, len(batches) // 8)]
            began = time.perf_counter()
            for batch in some:
                backbone(batch.inputs).square().sum().backward()
            seconds[name].append((time.perf_counter() - began) / sum(map(len, some)))
    for name, (_, _, padding) in taken.items():
        lines.append(f"| {name} | {1 / median(seconds[name]):.0f} | {padding:.2f} |")
    head = ["| batches | texts/s | tokens with padding, to those without |", "| --- | --- | --- |"]
    return "\n".join([*head, *lines])


def main() -> None:
    """Run all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 50, 0], help="texts per class, 0: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kept", type=Path, metavar="FILE")
    parser.add_argument("--pace", action="store_true")
    options = parser.parse_args()
    print(pace(options) if options.pace else table(scores(options)))


if __name__ == "__main__":
    main()
