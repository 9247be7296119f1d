"""How fast images arrive, what threads cost, and how the cost of a cached run grows: prints Markdown tables.

Cases of benchmark.py:

python benchmarks/benchmark.py loader threads growth --data hymenoptera --many cifar10 --weights ...
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO))


def enlarged(source: Path, target: Path, number: int, width: int, suffix: str) -> Path:
    """`number` images of a data set, resized to `width`, as JPEG (quality 90) or PNG, in two classes."""
    from PIL import Image

    paths = sorted(p for p in (source / "val").rglob("*.jpg"))[:number]
    for i, path in enumerate(paths):
        with Image.open(path) as file:
            image = file.convert("RGB")
        image = image.resize((width, round(width * image.height / image.width)), Image.Resampling.BICUBIC)
        place = target / str(i % 2) / f"{i}{suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.save(place, quality=90)
    return target


def loader(data: Path) -> None:
    """Images per second of one worker, random crops and mirror images, until they are normalised floats."""
    print("\n### loader\n")
    print("| images | ImageFolder + transforms | ours, first epoch | faster | ours, from the second | faster |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TL_CACHE"] = f"{folder}/cache"
        for name, number, width, suffix in (("500 px JPEG", 128, 500, ".jpg"), ("12 MP JPEG", 24, 4000, ".jpg"),
                                            ("500 px PNG", 128, 500, ".png")):  # fmt: skip
            root = enlarged(data, Path(folder) / name, number, width, suffix)
            theirs, first, later = [], [], []
            for _ in range(3):
                theirs.append(_theirs(root))
                a, b = _ours(root)
                first.append(a)
                later.append(b)
            t, f, s = (statistics.median(v) for v in (theirs, first, later))
            print(f"| {name} | {t:.0f}/s | {f:.0f}/s | {f / t:.1f}x | {s:.0f}/s | {s / t:.1f}x |", flush=True)


def _seconds(batches: Any) -> tuple[float, int]:
    began, count = time.perf_counter(), 0
    for images in batches:
        count += len(images)
    return time.perf_counter() - began, count


def _theirs(root: Path) -> float:
    import tl_lightning  # noqa: F401, I001  torchvision beside a CPU build of torch
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    transform = v2.Compose([
        v2.RandomResizedCrop(224, (0.35, 1.0)), v2.RandomHorizontalFlip(), v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    batches = DataLoader(ImageFolder(str(root), transform), 8, shuffle=True, num_workers=1, persistent_workers=True)
    _seconds(x for x, _ in batches)  # the worker has started, as ours has
    seconds, count = _seconds(x for x, _ in batches)
    return count / seconds


def _ours(root: Path) -> tuple[float, float]:
    from tl_lightning.data import image_folder
    from tl_lightning.inputs import ImageInput

    image = ImageInput(224, 224, 256, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    data = image_folder(image, root=str(root), batch_size=8, workers=1, val_fraction=0.05, cache="ram")
    batches = data.train_dataloader()
    epochs = []
    for _ in range(3):
        seconds, count = _seconds(data.on_after_batch_transfer(batch, 0).inputs for batch in batches)
        epochs.append(count / seconds)
    return epochs[0], statistics.median(epochs[1:])


def _run(words: list[str], environment: dict[str, str]) -> tuple[dict[str, Any], float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            str(REPO / "train.py"),
            "++callbacks.progress=null",
            *words,
            f"hydra.run.dir={folder}",
        ]
        child = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"{command} failed")
        return json.loads((Path(folder) / "metrics.json").read_text()), usage.ru_maxrss / 1024


def threads(data: Path, weights: str) -> None:
    """An epoch of finetune_top beside a busy neighbour on every core but one."""
    print("\n### threads\n")
    print("| loader processes | OpenMP threads spin | threads sleep (ours) | faster |")
    print("|---|---|---|---|")
    neighbours = range(max(1, (os.cpu_count() or 2) - 1))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in neighbours]
    try:
        for workers in (1, 2, 4):
            words = [f"data.root={data}", "backbone=mobilenet_v2", f"backbone.weights={weights}", "cache=off",
                     "strategy=finetune_top", "trainer.max_epochs=1", f"data.workers={workers}"]  # fmt: skip
            spin = _run(words, {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "infinite"})[0]["seconds/fit"]
            sleep = _run(words, {})[0]["seconds/fit"]
            print(f"| {workers} | {spin:.1f} s | {sleep:.1f} s | {spin / sleep:.1f}x |", flush=True)
    finally:
        for process in busy:
            process.kill()


def folding() -> None:
    """A training step at 224 px, forwards and backwards, with BatchNorm run by torch and folded into convolutions."""
    import torch

    from tl_lightning.backbones import torchvision
    from tl_lightning.backbones.folding import Folding

    print("\n### folding\n\n| network, batch | BatchNorm run | folded | faster |\n|---|---|---|---|")
    for name, batch in (("mobilenet_v2", 32), ("efficientnet_b0", 32), ("resnet18", 32), ("resnet50", 16)):
        network = torchvision(name, None, 224).eval().to(memory_format=torch.channels_last)
        images = torch.randn(batch, 3, 224, 224).contiguous(memory_format=torch.channels_last)
        step = partial(_step, network, images)
        plain, folded = _in_turn(step, partial(step, Folding(network.net).active))
        print(f"| `{name}`, {batch} | {plain:.2f} s | {folded:.2f} s | {plain / folded:.2f}x |", flush=True)


def small() -> None:
    """A training step of MobileNetV2 on small images, its depthwise convolutions as torch's own and as ours."""
    from tl_lightning.backbones.from_torchvision.depthwise import (
        quicken,  # first: torchvision beside a CPU build of torch
    )

    import torch  # isort: skip
    from torchvision.models import mobilenet_v2

    print("\n### small\n\n| pixels, batch of 64 | torch's convolutions | ours | faster |\n|---|---|---|---|")
    plain, quick = (mobilenet_v2().to(memory_format=torch.channels_last) for _ in range(2))
    quicken(quick)
    for size in (32, 48, 64, 96):
        images = torch.randn(64, 3, size, size).contiguous(memory_format=torch.channels_last)
        before, after = _in_turn(partial(_step, plain, images), partial(_step, quick, images))
        print(f"| {size} | {before:.2f} s | {after:.2f} s | {before / after:.2f}x |", flush=True)


def _step(network: Any, images: Any, way: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
    with way():
        network(images).square().mean().backward()


def _in_turn(*steps: Callable[[], None]) -> list[float]:
    """Seconds of each step, medians of five turns after one to warm up."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(6):
        for times, step in zip(seconds, steps, strict=True):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
    return [statistics.median(times[1:]) for times in seconds]


def gpu(data: Path) -> None:
    """Images per second of finetune_all in bf16 on a GPU, and of the same network on one batch that stays there."""
    print("\n### gpu: resnet50, 224 px, bf16-mixed\n\n| batches | images/s |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = enlarged(data, Path(folder) / "photos", 150, 500, ".jpg")
        for path in list(root.rglob("*.jpg")):
            for i in range(40):
                path.with_name(f"{path.stem}-{i}.jpg").symlink_to(path)
        words = [f"data.root={root}", "data.val_fraction=0.02", "data.batch_size=128", "backbone=resnet50",
                 "backbone.weights=null", "backbone.image_size=224", "strategy=finetune_all", "strategy.norm=eval",
                 "trainer=gpu", "callbacks=none", "logger=none"]  # fmt: skip
        environment = {"TL_CACHE": f"{folder}/cache"}
        few, many = (_run([*words, f"trainer.max_epochs={n}"], environment)[0]["seconds/fit"] for n in (1, 5))
        images = 4 * int(len(list(root.rglob("*.jpg"))) * 0.98)
        synthetic = _synthetic([*words, "data=image_folder"], 128)
    ours = images / (many - few)
    print(f"| one, on the GPU | {synthetic:.0f} |\n| tl_lightning | {ours:.0f} ({ours / synthetic:.0%}) |", flush=True)


def _synthetic(words: list[str], batch: int) -> float:
    import torch

    from tl_lightning.build import build
    from tl_lightning.config.compose import composed
    from tl_lightning.config.settings import settings_of

    module = build(settings_of(composed(words))).module.cuda().eval()
    images = torch.randn(batch, 3, 224, 224, device="cuda").contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.long, device="cuda")
    optimizer = torch.optim.AdamW(module.parameters(), 1e-5)
    for step in range(80):
        if step == 20:
            torch.cuda.synchronize()
            began = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(module(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.cuda.synchronize()
    return 60 * batch / (time.perf_counter() - began)


def growth(data: Path, weights: str) -> None:
    """Feature extraction on more and more images: seconds of the pass and of ten epochs, and peak memory."""
    print("\n### growth\n")
    print("| training images | rows | pass | per 1,000 rows | ten epochs | per 1,000 images | peak memory |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(p for p in data.rglob("*.*") if p.is_file() and p.suffix in (".png", ".jpg"))
        for number in (1000, 2000, 4000, 7000):
            root = Path(folder) / str(number)
            for i, path in enumerate(files[:: max(1, len(files) // number)][:number]):
                place = root / path.parent.name / f"{i}{path.suffix}"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(path.resolve())
            words = [f"data.root={root}", "backbone=mobilenet_v2", f"backbone.weights={weights}",
                     "backbone.image_size=64", "strategy=feature_extraction", "callbacks=none"]  # fmt: skip
            found, peak = _run(words, {"TL_CACHE": f"{folder}/cache"})
            train, total, fit = number * 0.8, found["seconds/total"], found["seconds/fit"]
            rows, once = 2 * train + number * 0.2, total - fit
            print(f"| {train:.0f} | {rows:.0f} | {once:.1f} s | {once / rows * 1000:.2f} s | {fit:.1f} s | "
                  f"{fit / train * 1000:.2f} s | {peak:.0f} MB |", flush=True)  # fmt: skip
