"""How well weights transfer, beside no pretraining: one table.

python benchmarks/pretrain_eval.py outputs/pretrain/TIME/weights.safetensors --data DATA
python benchmarks/pretrain_eval.py outputs/pretrain/TIME/weights.safetensors --targets digits

Every line trains with `finetune_all` from the weights and from random ones, for as many epochs, and solves a head on
the frozen network of each. DATA holds the folders sign_digits, cifar10_small and hymenoptera; digits come with the
package. Scores are of the last epoch on images that were not trained on; a range is over seeds. `--kept FILE` writes
scores down as they are found and does not find them twice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import mean
from threading import Lock

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Target:
    """A data set, and what it is trained with."""

    epochs: int
    size: int
    embedded: bool = False


TARGETS = {
    "digits": Target(5, 48, embedded=True),
    "sign_digits": Target(10, 64),
    "cifar10_small": Target(10, 64),
    "hymenoptera": Target(10, 128),
}


@dataclass(frozen=True)
class Job:
    """One run."""

    target: str
    weights: str
    strategy: str
    seed: int


class Scores:
    """Accuracies by job, kept in a file if one is named."""

    def __init__(self, path: Path | None, data: Path) -> None:
        self.path, self.data, self.lock = path, data, Lock()
        self.known: dict[str, float] = json.loads(path.read_text()) if path and path.exists() else {}

    def find(self, job: Job) -> float:
        """The accuracy of a job, known or found now."""
        digest = "null" if job.weights == "null" else sha256(Path(job.weights).read_bytes()).hexdigest()
        key = f"{job.target} {TARGETS[job.target]} {job.strategy} {job.seed} {digest}"
        if key not in self.known:
            found = score(job, self.data)
            with self.lock:
                self.known[key] = found
                if self.path:
                    self.path.write_text(json.dumps(self.known, indent=1))
        return self.known[key]


def score(job: Job, data: Path) -> float:
    """Train, and give the accuracy of the last epoch: on the test images where there are some, else on val."""
    target = TARGETS[job.target]
    words = ["data=digits"] if target.embedded else [f"data.root={data / job.target}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, str(ROOT / "train.py"), "backbone=mobilenet_v2", f"backbone.weights={job.weights}",
            f"backbone.image_size={target.size}", f"strategy={job.strategy}", f"trainer.max_epochs={target.epochs}",
            f"seed={job.seed}", "trainer=cpu", "data.workers=0", "callbacks=none", "logger=none",
            f"hydra.run.dir={folder}/run", *words,
        ]  # fmt: skip
        own = {"OMP_NUM_THREADS": "1", "TL_CACHE": f"{folder}/cache"}
        done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        metrics = json.loads(Path(folder, "run", "metrics.json").read_text())
    return float(metrics.get("test/accuracy", metrics["val/accuracy"]))


def main() -> None:
    """Run all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a file")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=[*TARGETS])
    parser.add_argument("--beside", help="further weights for a column of their own, e.g. ImageNet's")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kept", type=Path, metavar="FILE")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    options = parser.parse_args()
    if options.data is None and any(not TARGETS[t].embedded for t in options.targets):
        parser.error("--data names the folder that holds the targets' folders")
    sources = {"null": "from scratch", options.weights: "pretrained"}
    if options.beside:
        sources[options.beside] = "beside"
    print("| target | strategy | " + " | ".join(sources.values()) + " | gain |")
    print("|" + " --- |" * (len(sources) + 3), flush=True)
    scores = Scores(options.kept, options.data)
    with ThreadPoolExecutor(options.jobs) as pool:
        for target in options.targets:
            for strategy in ("finetune_all", "linear_probe"):
                jobs = {w: [Job(target, w, strategy, seed) for seed in options.seeds] for w in sources}
                waiting = {w: [pool.submit(scores.find, job) for job in each] for w, each in jobs.items()}
                found = {w: [100 * f.result() for f in each] for w, each in waiting.items()}
                cells = [f"{mean(s):.1f} ({min(s):.1f}-{max(s):.1f})" for s in found.values()]
                gain = mean(found[options.weights]) - mean(found["null"])
                print(f"| {target} | {strategy} | {' | '.join(cells)} | {gain:+.1f} |", flush=True)


if __name__ == "__main__":
    main()
