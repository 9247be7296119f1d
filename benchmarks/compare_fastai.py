"""fastai's fine_tune on a split of an image folder, in an environment of its own (make bench-env).

python benchmarks/compare_fastai.py ROOT SPLITS.csv WEIGHTS SIZE EPOCHS SEED FLIP OUT: writes the accuracy to OUT. One
of the epochs trains the head alone, as fine_tune does.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import torch

library = torch.library.Library("torchvision", "DEF")  # as tl_lightning does: torchvision beside a CPU build of torch
for schema in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
               "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):  # fmt: skip
    library.define(schema)

from fastai.vision.all import (  # noqa: E402
    CategoryBlock,
    DataBlock,
    Flip,
    FuncSplitter,
    ImageBlock,
    Normalize,
    RandomResizedCrop,
    accuracy,
    imagenet_stats,
    set_seed,
    vision_learner,
)
from fastai.vision.learner import default_split, model_meta  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torchvision.models import mobilenet_v2  # noqa: E402


def main(root: str, splits: str, weights: str, size: int, epochs: int, seed: int, flip: bool) -> float:
    """Accuracy after the last epoch, on the test images where there are some, else on those for validation."""
    with open(splits, newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if not r["skipped"]]
    held = "test" if any(r["split"] == "test" for r in rows) else "val"
    judged = [r for r in rows if r["split"] == held]
    few = judged[:: max(1, len(judged) // 16)]  # fine_tune looks at them in every epoch
    items = [r for r in rows if r["split"] == "train"] + few
    set_seed(seed, reproducible=True)

    def body(pretrained: bool = False, weights: Any = weights) -> Any:
        net = mobilenet_v2()
        net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(weights).items()})
        return net

    model_meta[body] = {"cut": -1, "split": default_split, "stats": imagenet_stats}
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_items=lambda source: items,
        splitter=FuncSplitter(lambda row: row["split"] == held),
        get_x=lambda row: Path(root, row["path"]),
        get_y=lambda row: row["class"],
        item_tfms=RandomResizedCrop(size, min_scale=0.35),
        batch_tfms=[*([Flip()] if flip else []), Normalize.from_stats(*imagenet_stats)],
    )
    loaders = block.dataloaders(root, bs=min(16, sum(r["split"] == "train" for r in items)), num_workers=0)
    learner = vision_learner(loaders, body, metrics=accuracy, pretrained=True)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs - 1)
        return float(learner.validate(dl=loaders.test_dl(judged, with_labels=True))[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = sys.argv[1:]
    found = main(given[0], given[1], given[2], int(given[3]), int(given[4]), int(given[5]), given[6] == "True")
    Path(given[7]).write_text(str(found))
