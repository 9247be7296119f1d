"""How long the same work takes here and elsewhere, in alternating runs: prints Markdown tables.

python benchmarks/benchmark.py feature_extraction loader --data hymenoptera --weights mobilenet_v2.safetensors
python benchmarks/benchmark.py --data hymenoptera --weights mobilenet_v2.safetensors --peers .venv-bench/bin/python

Every contestant is a process of its own, timed from outside: seconds of the whole process, of the work after imports,
peak memory, validation accuracy of the last epoch (mean and range over `--repeats` seeds). Ratios are of medians. A
contestant that would take too long runs the epochs in brackets, and the time of its work is scaled to the whole.
`loader`, `folding`, `small`, `threads`, `growth` and `gpu` are those of benchmark_data.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import benchmark_data

REPO = Path(__file__).parents[1]
LOOPS, PEERS = (REPO / "benchmarks" / f"benchmark_{name}.py" for name in ("loops", "peers"))


@dataclass
class Contestant:
    """`command` writes {"seconds", "accuracy"} to the file named by its last argument, or a run's metrics.json.

    "SEED" in it stands for the number of the repeat.
    """

    name: str
    command: list[str]
    scale: float = 1.0
    cold: bool = False
    total: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    peak: float = 0.0


def measure(contestant: Contestant, cache: Path, seed: int) -> None:
    """Run it once and note what it took."""
    command = [word.replace("SEED", str(seed)) for word in contestant.command]
    if contestant.cold:
        for entry in cache.glob("features/*"):
            for file in entry.glob("*") if entry.is_dir() else []:
                file.unlink()
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "metrics.json", Path(folder) / "log"
        place = f"hydra.run.dir={folder}" if "train.py" in command[1] else str(out)
        environment = {**os.environ, "TL_CACHE": str(cache), "OMP_WAIT_POLICY": "PASSIVE"}
        began = time.perf_counter()
        with log.open("wb") as text:
            pid = os.posix_spawn(command[0], [*command, place], environment,
                                 file_actions=[(os.POSIX_SPAWN_DUP2, text.fileno(), 1),
                                               (os.POSIX_SPAWN_DUP2, text.fileno(), 2)])  # fmt: skip
            _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - began
        if status:
            sys.exit(f"{contestant.name} failed:\n{log.read_text()[-3000:]}")
        found = json.loads(out.read_text())
    work = found.get("seconds", found.get("seconds/total"))
    contestant.total.append(seconds + work * (contestant.scale - 1))
    contestant.work.append(work * contestant.scale)
    scores = [found[k] for k in ("accuracy", "final/accuracy", "val/accuracy") if k in found]
    contestant.accuracy += scores[:1]
    contestant.peak = max(contestant.peak, usage.ru_maxrss / 1024)


def table(title: str, contestants: list[Contestant], repeats: int, cache: Path) -> None:
    """Alternate the contestants and print their medians against the first one's."""
    for seed in range(repeats):
        for contestant in contestants:
            measure(contestant, cache, seed)
    first = contestants[0]
    print(f"\n### {title}\n\n| | whole process | faster | after start-up | faster | accuracy | peak memory |")
    print("|---|---|---|---|---|---|---|")
    for c in contestants:
        total, work = statistics.median(c.total), statistics.median(c.work)
        faster, base = statistics.median(first.total) / total, statistics.median(first.work)
        accuracy = f"{statistics.mean(c.accuracy):.3f}" if c.accuracy else ""
        accuracy += f" ({min(c.accuracy):.3f} to {max(c.accuracy):.3f})" if len(c.accuracy) > 1 else ""
        cells = (
            c.name,
            f"{total:.1f} s",
            f"{faster:.2f}x",
            f"{work:.1f} s",
            f"{base / work:.2f}x" if base > 0.1 else "",
            accuracy,
            f"{c.peak:.0f} MB",
        )
        print("|", " | ".join(cells), "|", flush=True)


def main() -> None:
    """Read the command line and run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--data", required=True, help="a folder of images with train and val")
    parser.add_argument("--weights", required=True, help="a MobileNetV2 file")
    parser.add_argument("--peers", help="a Python with fastai and lightning (make bench-env)")
    parser.add_argument("--many", help="a folder of many small images, for growth")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--quick", type=int, default=5, help="epochs that slow contestants run")
    args = parser.parse_args()

    def ours(*words: str, seed: str = "SEED") -> list[str]:
        fixed = ["callbacks.early_stopping=null", "callbacks.progress=null", "backbone=mobilenet_v2"]
        where = [f"data.root={args.data}", f"backbone.weights={args.weights}", f"seed={seed}"]
        return [sys.executable, str(REPO / "train.py"), *fixed, *where, *words]

    def loop(kind: str, epochs: int) -> list[str]:
        python, file = (args.peers, PEERS) if "_" in kind else (sys.executable, LOOPS)
        return [python, str(file), kind, args.data, args.weights, str(epochs), "SEED"]

    quick = args.quick

    def slow(name: str, kind: str, epochs: int) -> Contestant:
        return Contestant(f"{name} ({quick} of {epochs} epochs)", loop(kind, quick), epochs / quick)

    fe = ["strategy=feature_extraction", "trainer.max_epochs=25"]
    top = ["strategy=finetune_top", "strategy.stages=2", "trainer.max_epochs=10"]
    cases = {
        "feature_extraction": ("feature_extraction, 25 epochs", [
            slow("plain PyTorch: channels_last, no_grad, a worker", "frozen", 25),
            slow("tutorial loop: NCHW, autograd below the head", "tutorial", 25),
            Contestant("one bare pass: decode + ONNX Runtime, 2 views of train, 1 of val", loop("bare2", 1)),
            Contestant("tl_lightning, cold cache", ours(*fe), cold=True),
            Contestant("tl_lightning, warm cache, another seed", ours(*fe, seed="10SEED")),
            Contestant(f"tl_lightning, cache=off ({quick} of 25 epochs)",
                       ours(*fe[:1], f"trainer.max_epochs={quick}", "cache=off"), 25 / quick),
        ]),
        "linear_probe": ("linear_probe", [
            Contestant("one bare pass: decode + ONNX Runtime, 1 view", loop("bare1", 1)),
            Contestant("tl_lightning, cold cache", ours("strategy=linear_probe"), cold=True),
            Contestant("tl_lightning, warm cache", ours("strategy=linear_probe")),
        ]),
        "finetune_top": ("finetune_top, last two stages, 10 epochs", [
            Contestant("plain PyTorch: channels_last, no_grad, a worker", loop("top", 10)),
            Contestant("tl_lightning, cache=4, cold", ours(*top, "cache=4"), cold=True),
            Contestant("tl_lightning, cache=off", ours(*top, "cache=off")),
        ]),
        "finetune_all": (f"finetune_all, {quick} epochs", [
            Contestant("plain PyTorch: channels_last, a worker", loop("all", quick)),
            Contestant("tl_lightning", ours("strategy=finetune_all", f"trainer.max_epochs={quick}")),
        ]),
        "startup": ("start-up: imports alone", [
            Contestant("torch, torchvision", loop("torch", 1)),
            Contestant("torch, torchvision, lightning", loop("lightning", 1)),
            Contestant("tl_lightning", loop("ours", 1)),
        ]),
    }  # fmt: skip
    if args.peers:
        cases["feature_extraction"][1].extend([
            slow("fastai vision_learner, frozen", "fastai_frozen", 25),
            slow("Lightning BackboneFinetuning, frozen", "lightning_frozen", 25),
        ])  # fmt: skip
        cases["finetune_top"][1].extend([
            slow("fastai, frozen up to the last two stages", "fastai_top", 10),
            slow("Lightning BackboneFinetuning on the last two stages", "lightning_top", 10),
        ])  # fmt: skip
        cases["finetune_all"][1].extend([
            Contestant("fastai, unfrozen", loop("fastai_all", quick)),
            Contestant("Lightning BackboneFinetuning, unfrozen at once", loop("lightning_all", quick)),
        ])  # fmt: skip
    others = {
        "loader": lambda: benchmark_data.loader(Path(args.data)),
        "folding": benchmark_data.folding,
        "small": benchmark_data.small,
        "threads": lambda: benchmark_data.threads(Path(args.data), args.weights),
    }
    if shutil.which("nvidia-smi"):
        others["gpu"] = lambda: benchmark_data.gpu(Path(args.data))
    if args.many:
        others["growth"] = lambda: benchmark_data.growth(Path(args.many), args.weights)
    unknown = [c for c in args.cases if c not in {*cases, *others}]
    if unknown:
        parser.error(f"there is no case {unknown[0]}: {', '.join([*cases, *others])} (growth needs --many, gpu a GPU)")
    for name in args.cases or [*cases, *others]:
        if name in others:
            others[name]()
        else:
            with tempfile.TemporaryDirectory() as cache:
                table(*cases[name], repeats=args.repeats, cache=Path(cache))


if __name__ == "__main__":
    main()
