"""Runs on two processes whose parameters are divided (FSDP2) against the same under DDP, strategy by strategy.

    python benchmarks/fsdp2.py [WEIGHTS]

On the embedded digits, MobileNetV2 at 48 px (WEIGHTS: a file; default: the package's own of drawn images), gradient
descent for three epochs, the last of them by a run that is resumed. Printed are the largest difference of any weight
after the last epoch, and how far weights have moved at most since the first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
CASES = {
    "finetune_all": ["strategy=finetune_all"],
    "lp_ft": ["strategy=lp_ft"],
    "finetune_top": ["strategy=finetune_top"],
    "lora": ["strategy=lora"],
    "accumulated": ["strategy=finetune_all", "trainer.accumulate_grad_batches=3"],
    "bf16-mixed": ["strategy=finetune_all", "trainer.precision=bf16-mixed"],
}
WORDS = ["data=digits", "data.max_per_class=30", "data.batch_size=8", "backbone.image_size=48", "strategy.norm=eval",
         "optimizer=sgd", "optimizer.lr=1e-3", "augment=none", "trainer=cpu", "trainer.devices=2", "report=false",
         "trainer.max_epochs=2", "cache=off"]  # fmt: skip


def run(*words: str) -> None:
    """A command of its own."""
    subprocess.run([sys.executable, str(ROOT / "train.py"), *words], check=True, stdout=subprocess.DEVNULL)


def weights(folder: Path, epoch: str) -> dict[str, Tensor]:
    """Of a run's checkpoint."""
    state: dict[str, Tensor] = torch.load(folder / "checkpoints" / epoch, weights_only=True)["state_dict"]
    return state


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of two networks' weights."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a if a[name].is_floating_point())


def main() -> None:
    """A line for each case."""
    given = ["backbone=mobilenet_v2", f"backbone.weights={sys.argv[1]}"] if sys.argv[1:] else []
    print(f"{'case':14} {'difference':>10} {'moved':>10}")
    with tempfile.TemporaryDirectory() as scratch:
        for name, words in CASES.items():
            for strategy in ("ddp", "fsdp2"):
                folder = Path(scratch, f"{name}-{strategy}")
                run(*given, *WORDS, *words, f"trainer.strategy={strategy}", f"hydra.run.dir={folder}")
                if strategy == "ddp":
                    begun = weights(folder, "previous.ckpt")
                run(f"resume={folder}", "trainer.max_epochs=3")
            ddp, fsdp2 = (weights(Path(scratch, f"{name}-{strategy}"), "last.ckpt") for strategy in ("ddp", "fsdp2"))
            print(f"{name:14} {apart(ddp, fsdp2):10.1e} {apart(ddp, begun):10.1e}", flush=True)


if __name__ == "__main__":
    main()
