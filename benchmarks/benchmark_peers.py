"""The same work by the peers, in an environment of their own (make bench-env).

python benchmarks/benchmark_peers.py KIND DATA WEIGHTS EPOCHS SEED OUT: writes {"seconds", "accuracy"} to OUT.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch

library = torch.library.Library("torchvision", "DEF")  # as tl_lightning does: torchvision beside a CPU build of torch
for schema in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
               "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):  # fmt: skip
    library.define(schema)

import torch.nn.functional as F  # noqa: E402
from benchmark_loops import BATCH, TOP, loaders, main, network, readable  # noqa: E402
from torch import Tensor  # noqa: E402


def fastai(data: str, weights: str, epochs: int, *, what: str) -> float:
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


def lightning(data: str, weights: str, epochs: int, *, what: str) -> float:
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


if __name__ == "__main__":
    peers = {"fastai": fastai, "lightning": lightning}
    main(
        {f"{name}_{what}": partial(run, what=what) for name, run in peers.items() for what in ("frozen", "top", "all")}
    )
