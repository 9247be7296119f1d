"""The network that is pretrained, and its task."""

from __future__ import annotations

import math

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from tl_lightning.backbones.folding import pairs
from tl_lightning.backbones.from_torchvision.networks import torchvision as backbone
from tl_lightning.inputs import ImageInput
from tl_lightning.pretraining.description import LENGTH, describe
from tl_lightning.pretraining.scenes import Batch

# torchvision's numbers for photographs: these weights go wherever its own do
INPUT = ImageInput(64, 64, 64, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class Pretraining(L.LightningModule):
    """A torchvision network that tells which of `systems` systems an image shows, and describes the image.

    The loss is a softmax over the systems whose target is shared among those shown (Mahajan et al., ECCV 2018, for
    hashtags), and `share` of the squared error of the description.
    """

    def __init__(
        self, name: str, systems: int, *, share: float, lr: float, weight_decay: float, warmup: float = 0.02
    ) -> None:
        super().__init__()
        self.backbone = backbone(name, weights=None)
        level(self.backbone.net)
        self.systems = nn.Linear(self.backbone.feature_dim, systems)
        self.description = nn.Linear(self.backbone.feature_dim, LENGTH)
        self.share, self.lr, self.weight_decay, self.warmup = share, lr, weight_decay, warmup

    def forward(self, images: Tensor) -> Tensor:
        """Bytes (N, 3, H, W) to features (N, D)."""
        features: Tensor = self.backbone(INPUT.normalise(images).contiguous(memory_format=torch.channels_last))
        return features

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss, a scalar; `train/hits` is the share of the systems shown that rank among as many guesses."""
        images, shown = batch
        features = self(images)
        logits, number = self.systems(features), shown.sum(1, keepdim=True)
        telling = F.cross_entropy(logits, shown / number)
        describing = F.mse_loss(self.description(features), describe(images))
        guesses = logits.detach().argsort(1, descending=True)
        among = torch.arange(shown.shape[1], device=shown.device) < number
        hits = (shown.gather(1, guesses) * among).sum() / number.sum()
        values = {"loss": telling.detach(), "description": describing.detach(), "hits": hits}
        for name, value in values.items():
            self.log(f"train/{name}", value, on_step=True, on_epoch=True, batch_size=1, sync_dist=True)
        return telling + self.share * describing

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW without decay on norms and biases; a short warm-up, then a cosine to nothing over the whole run."""
        decayed = [p for p in self.parameters() if p.ndim > 1]
        rest = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, fused=True)
        steps = int(self.trainer.estimated_stepping_batches)
        rising = max(1, round(self.warmup * steps))

        def multiplier(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


@torch.no_grad()
def level(net: nn.Module, size: float = 0.25) -> None:
    """Scale the weights of every convolution before a BatchNorm to a root mean square of `size`, the output the same.

    AdamW moves all weights by as much, whatever their size. Torchvision begins with depthwise weights that are a
    twentieth of the projections', so that they are lost in noise at rates where the projections have hardly moved; of
    one size, all layers learn at one relative rate (You et al., LAMB, ICLR 2020, reach it by scaling the steps).
    """
    for parent, before, after in pairs(net):
        conv, norm = getattr(parent, before), getattr(parent, after)
        scale = size / conv.weight.square().mean().sqrt()
        conv.weight.mul_(scale)
        norm.running_mean.mul_(scale)
        norm.running_var.mul_(scale.square())
