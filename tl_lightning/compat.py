"""Every private function of a library that the package leans on, in one place, and what makes torchvision importable.

| library (last checked) | private name | the public way it stands in for |
|---|---|---|
| torchvision 0.28.0 | operators `torchvision::nms`, `qnms` | a torchvision linked against this torch (see below) |
| torchvision 0.28.0 | `GoogLeNet._transform_input`, `Inception3._transform_input` | none: it is no module |
| torchvision 0.28.0 | `VisionTransformer._process_input` | none: patches are flattened in a method |
| torchvision 0.28.0 | `Weights.meta["_metrics"]`, `["_ops"]`, `["_file_size"]` | none: figures are there alone |
| lightning 2.6.6 | `subprocess_script._hydra_subprocess_cmd` | an argument of the launcher for the command of a rank |
| lightning 2.6.6 | `subprocess_script._launch_process_observer` | a dead rank as an exception, in place of a kill |
| lightning 2.6.6 | `DDPStrategy._setup_model`, `_register_ddp_hooks` | none: wrapping anew (lightning#20340) |
| lightning 2.6.6 | `ModelParallelStrategy._data_parallel_size` | a size that means all devices |
| torch 2.13.0 | `Conv2d._conv_forward`, `_reversed_padding_repeated_twice` | `F.conv2d`, every padding mode by hand |

PyPI's torchvision is linked against CUDA. Beside a CPU build of torch its library does not load, and
`import torchvision` then dies with "operator torchvision::nms does not exist", because two operators are given fake
implementations without having been defined. lightning and torchmetrics import torchvision by themselves, so the remedy
has to come before any of the three: a finder that runs when "torchvision" is first imported (`torchvision_hook.py`).
Installing the package puts a copy of it and a .pth file into site-packages, so that every program of the environment
can import torchvision and lightning, this package or not; a checkout that is not installed has it from
`import tl_lightning`. Where the operators load it changes nothing. Models, transforms and data sets work without them;
`torchvision.ops.nms` and the detection models do not. From an index with matching CPU wheels
(https://download.pytorch.org/whl/cpu) none of this is needed.
"""

from __future__ import annotations

import _thread
import gc
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.strategies import DDPStrategy
    from torch import Tensor, nn

_SCHEMA = "{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[Any] = []  # a torch.library.Library takes its definitions along when it is collected


def define_missing_operators() -> bool:
    """Define `torchvision::nms` and `qnms` if the compiled ones do not load; True where something was defined."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    folder = Path(spec.origin).parent
    for library in sorted(p for p in folder.glob("_C*") if p.suffix in {".so", ".pyd", ".dylib"}):
        try:
            torch.ops.load_library(str(library))
            return False
        except OSError:
            continue
    missing = [name for name in ("nms", "qnms") if not hasattr(torch.ops.torchvision, name)]
    library_fragment = torch.library.Library("torchvision", "FRAGMENT")
    for name in missing:
        library_fragment.define(_SCHEMA.format(name=name))
    _kept.append(library_fragment)
    return bool(missing)


def rescaled(net: Any, images: Tensor) -> Tensor:
    """Normalised images (N, 3, H, W) as the weights of GoogLeNet and Inception want them: (x - 0.5) / 0.5."""
    scaled: Tensor = net._transform_input(images)
    return scaled


def patches(net: Any, images: Tensor) -> Tensor:
    """Images (N, 3, H, W) as the tokens (N, P, D) of torchvision's ViT, without class token and positions."""
    tokens: Tensor = net._process_input(images)
    return tokens


def figures(entry: Any) -> tuple[Mapping[str, float], float]:
    """What torchvision's documentation says of a weights entry: accuracies on ImageNet, and GFLOPs."""
    return entry.meta["_metrics"]["ImageNet-1K"], float(entry.meta["_ops"])


def megabytes(entry: Any) -> float:
    """The size of the file of a weights entry of torchvision."""
    return float(entry.meta["_file_size"])


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution (N, C, H, W) with other weights, padded as the layer pads."""
    output: Tensor = conv._conv_forward(x, weight, bias)
    return output


@contextmanager
def launching(command: Sequence[str], patience: float = 60.0) -> Iterator[list[str]]:
    """While inside, Lightning starts the further ranks of a run with this command; gives those that died, in words.

    Lightning kills the main process with them, and with it a sweep. Here the others are killed and the main thread is
    interrupted; only if it has not come back after `patience` seconds, from a collective that nobody answers, it is
    killed.
    """
    from lightning.pytorch.strategies.launchers import subprocess_script

    launcher: Any = subprocess_script
    dead: list[str] = []
    left = threading.Event()

    def watch(processes: Sequence[Any]) -> None:
        while not left.wait(1.0):
            if codes := {i: p.poll() for i, p in enumerate(processes, 1) if p.poll()}:
                dead.extend(f"rank {i} ended with code {code}" for i, code in codes.items())
                for process in processes:
                    process.kill()
                _thread.interrupt_main()
                if not left.wait(patience):
                    os.kill(os.getpid(), signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
                return

    def observe(processes: Sequence[Any]) -> None:
        threading.Thread(target=watch, args=(processes,), daemon=True).start()

    before = launcher._hydra_subprocess_cmd, launcher._launch_process_observer
    launcher._hydra_subprocess_cmd = lambda local_rank: (list(command), os.getcwd())
    launcher._launch_process_observer = observe
    try:
        yield dead
    finally:
        left.set()
        launcher._hydra_subprocess_cmd, launcher._launch_process_observer = before


def wrap_again(strategy: DDPStrategy) -> None:
    """Wrap the learner anew: DDP averages only what had gradients when it wrapped (lightning#20340)."""
    module = strategy.lightning_module
    assert module is not None
    strategy.model = None
    gc.collect()  # the old reducer's hooks must be gone before the new one registers its own
    strategy.model = strategy._setup_model(module)
    strategy._register_ddp_hooks()
