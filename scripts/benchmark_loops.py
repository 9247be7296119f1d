"""What tl_lightning is timed against: loops as a good engineer would write them, and the peers' own.

python scripts/benchmark_loops.py KIND DATA WEIGHTS EPOCHS SEED OUT: writes {"seconds", "accuracy"} to OUT.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

if "fastai" not in sys.argv[1] and "lightning_" not in sys.argv[1]:
    import tl_lightning  # noqa: F401  torchvision beside a CPU build of torch
else:
    import torch

    library = torch.library.Library("torchvision", "DEF")  # the same for an environment without the package
    for schema in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
                   "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):  # fmt: skip
        library.define(schema)

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


def plain(data: str, weights: str, epochs: int, first: int, tutorial: bool = False) -> float:
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


def bare(data: str, weights: str, views: int) -> float:
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
    began = time.perf_counter()
    for split, transforms in (("train", (EVAL, MIRROR)[:views]), ("val", (EVAL,))):
        both = v2.Lambda(lambda image, ts=transforms: torch.stack([t(image) for t in ts]))
        for x, _ in DataLoader(Files(Path(data) / split, both), BATCH // len(transforms), num_workers=1):
            session.run(None, {"x": x.flatten(0, 1).numpy()})
    return time.perf_counter() - began


def fastai(data: str, weights: str, epochs: int, what: str) -> float:
    """Fastai's vision_learner with its own augmentation of the same geometry; `what` learns: frozen, top or all."""
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        Flip,
        GrandparentSplitter,
        ImageBlock,
        Normalize,
        RandomResizedCrop,
        accuracy,
        get_image_files,
        imagenet_stats,
        parent_label,
        vision_learner,
    )  # fmt: skip
    from fastai.vision.learner import default_split, model_meta
    from fastai.vision.learner import params as of

    def body(pretrained: bool = False, weights: Any = None) -> Any:
        return network(sys.argv[3])

    def three(model: Any) -> list[Any]:
        features = model[0][0]
        return [of(features[:TOP]), of(features[TOP:]), of(model[1])]

    model_meta[body] = {"cut": -1, "split": three if what == "top" else default_split, "stats": imagenet_stats}
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_items=lambda folder: [f for f in get_image_files(folder) if readable(f)],
        splitter=GrandparentSplitter(valid_name="val"),
        get_y=parent_label,
        item_tfms=RandomResizedCrop(224, min_scale=0.35),
        batch_tfms=[Flip(), Normalize.from_stats(*imagenet_stats)],
    )
    learner = vision_learner(block.dataloaders(data, bs=BATCH, num_workers=1), body, metrics=accuracy, pretrained=True)
    with learner.no_bar(), learner.no_logging():
        if what == "all":
            learner.unfreeze()
        elif what == "top":
            learner.freeze_to(1)
        rates = {"frozen": 1e-3, "top": slice(1e-4, 1e-3), "all": slice(1e-5, 1e-3)}
        learner.fit_one_cycle(epochs, rates[what])
        return float(learner.validate()[1])


def lightning(data: str, weights: str, epochs: int, what: str) -> float:
    """Lightning's BackboneFinetuning; `what` learns: frozen (never unfrozen), top or all (unfrozen at once)."""
    import lightning as L
    from lightning.pytorch.callbacks import BackboneFinetuning

    start = TOP if what == "top" else 0

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            net = network(weights)
            self.stem, self.backbone, self.head = net.features[:start], net.features[start:], net.classifier
            BackboneFinetuning.freeze(self.stem, train_bn=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.backbone(self.stem(x)).mean((2, 3)))

        def training_step(self, batch: Any, index: int) -> Tensor:
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean(), batch_size=len(batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-3)

    when = epochs + 1 if what == "frozen" else 0
    finetuning = BackboneFinetuning(when, lambda epoch: 1.0, backbone_initial_lr=1e-4, should_align=False)
    trainer = L.Trainer(max_epochs=epochs, callbacks=[finetuning], logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")  # fmt: skip
    trainer.fit(Module(), *loaders(data))
    return float(trainer.callback_metrics["accuracy"])


def main() -> None:
    """Run one loop and write down what it took."""
    kind, data, weights, epochs, seed, out = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
    torch.manual_seed(seed)
    began = time.perf_counter()
    found: dict[str, float] = {}
    if kind == "lightning":
        import lightning as L  # noqa: F401
    elif kind.startswith("bare"):
        found["seconds"] = bare(data, weights, int(kind[-1]))
    elif kind.startswith("fastai"):
        found["accuracy"] = fastai(data, weights, epochs, kind.partition("_")[2])
    elif kind.startswith("lightning"):
        found["accuracy"] = lightning(data, weights, epochs, kind.partition("_")[2])
    elif kind != "nothing":
        first = {"frozen": 19, "tutorial": 19, "top": TOP, "all": 0}[kind]
        found["accuracy"] = plain(data, weights, epochs, first, kind == "tutorial")
    found.setdefault("seconds", time.perf_counter() - began)
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
