"""What tl_lightning is timed against: loops as a good engineer would write them.

python benchmarks/benchmark_loops.py KIND DATA WEIGHTS EPOCHS SEED OUT: writes {"seconds", "accuracy"} to OUT.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

with suppress(ImportError):  # torchvision beside a CPU build of torch; benchmark_peers.py has seen to it already
    import tl_lightning  # noqa: F401

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import mobilenet_v2
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TO_FLOAT = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
TRAIN = v2.Compose([v2.RandomResizedCrop(224, (0.35, 1.0)), v2.RandomHorizontalFlip(), *TO_FLOAT])
EVAL = v2.Compose([v2.Resize(256), v2.CenterCrop(224), *TO_FLOAT])
MIRROR = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.RandomHorizontalFlip(1.0), *TO_FLOAT])
BATCH = 32
TOP = 7  # where the last two stages of MobileNetV2 begin in its features


class Files(Dataset[tuple[Tensor, int]]):
    """torchvision's ImageFolder, less the files that it cannot read."""

    def __init__(self, root: Path, transform: Any) -> None:
        self.transform = transform
        classes = sorted(p.name for p in root.iterdir() if p.is_dir())
        found = [(p, i) for i, c in enumerate(classes) for p in sorted((root / c).iterdir())]
        self.items = [(p, i) for p, i in found if readable(p)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.items[index]
        return self.transform(Image.open(path).convert("RGB")), label


def readable(path: Path) -> bool:
    """Whether Pillow decodes the file."""
    try:
        Image.open(path).draft("RGB", (32, 32))
        Image.open(path).convert("RGB")
    except Exception:
        return False
    return True


def loaders(data: str) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Shuffled training and plain validation batches from one worker each."""
    options: dict[str, Any] = {"num_workers": 1, "persistent_workers": True}
    train = DataLoader(Files(Path(data) / "train", TRAIN), BATCH, shuffle=True, drop_last=True, **options)
    return train, DataLoader(Files(Path(data) / "val", EVAL), 2 * BATCH, **options)


def network(weights: str) -> Any:
    """MobileNetV2 with two classes."""
    net = mobilenet_v2()
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(weights).items()})
    net.classifier = nn.Linear(1280, 2)
    return net


def plain(data: str, weights: str, epochs: int, *, first: int, tutorial: bool = False) -> float:
    """Train features[first:] and the head in plain PyTorch; gives the accuracy of the last epoch."""
    train, val = loaders(data)
    net = network(weights)
    layout = torch.contiguous_format if tutorial else torch.channels_last
    net = net.to(memory_format=layout)
    net.requires_grad_(False)
    learns = [*net.features[first:].parameters(), *net.classifier.parameters()]
    for p in learns:
        p.requires_grad_(True)
    groups: list[dict[str, Any]] = [{"params": list(net.classifier.parameters()), "lr": 1e-3}]
    if first < len(net.features):
        groups.append({"params": list(net.features[first:].parameters()), "lr": 1e-4})
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train))

    def forward(x: Tensor) -> Tensor:
        x = x.to(memory_format=layout)
        if tutorial:
            return net(x)
        with torch.no_grad():
            x = net.features[:first](x)
        return net.classifier(net.features[first:](x).mean((2, 3)))

    accuracy = 0.0
    for _ in range(epochs):
        net.train(tutorial)  # the tutorial's loop lets frozen BatchNorm follow the batches
        for x, y in train:
            optimizer.zero_grad()
            F.cross_entropy(forward(x), y).backward()
            optimizer.step()
            schedule.step()
        net.eval()
        right = 0
        with torch.no_grad():
            for x, y in val:
                right += int((forward(x).argmax(1) == y).sum())
        accuracy = right / len(val.dataset)  # type: ignore[arg-type]
    return accuracy


def bare(data: str, weights: str, epochs: int, *, views: int) -> None:
    """Decode every image once and push its views through the fastest engine: what cannot be avoided."""
    import io
    import warnings

    import onnxruntime as ort

    net, file = network(weights).eval(), io.BytesIO()
    net.classifier = nn.Identity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "n"}}
        torch.onnx.export(net, (torch.randn(2, 3, 224, 224),), file, dynamo=False, input_names=["x"], dynamic_axes=axes)
    session = ort.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    restart()  # the export is no part of it
    for split, transforms in (("train", (EVAL, MIRROR)[:views]), ("val", (EVAL,))):
        both = v2.Lambda(lambda image, ts=transforms: torch.stack([t(image) for t in ts]))
        for x, _ in DataLoader(Files(Path(data) / split, both), BATCH // len(transforms), num_workers=1):
            session.run(None, {"x": x.flatten(0, 1).numpy()})


def imports(data: str, weights: str, epochs: int, *, name: str) -> None:
    """Import a module, and what it imports."""
    importlib.import_module(name)


_began = 0.0


def restart() -> None:
    """Start the clock (again)."""
    global _began
    _began = time.perf_counter()


def main(loops: dict[str, Callable[[str, str, int], float | None]]) -> None:
    """Run the loop that the command line names and write down what it took."""
    kind, data, weights, epochs, seed, out = sys.argv[1:]
    torch.manual_seed(int(seed))
    restart()
    accuracy = loops[kind](data, weights, int(epochs))
    found = {"seconds": time.perf_counter() - _began}
    Path(out).write_text(json.dumps(found if accuracy is None else {**found, "accuracy": accuracy}))


if __name__ == "__main__":
    main({
        "frozen": partial(plain, first=19),
        "tutorial": partial(plain, first=19, tutorial=True),
        "top": partial(plain, first=TOP),
        "all": partial(plain, first=0),
        "bare1": partial(bare, views=1),
        "bare2": partial(bare, views=2),
        "torch": partial(imports, name="torch"),
        "lightning": partial(imports, name="lightning"),
        "ours": partial(imports, name="tl_lightning.jobs.train"),
    })  # fmt: skip
