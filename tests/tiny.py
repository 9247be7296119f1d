"""A learner small enough to be trained dozens of times in a test, with all that makes freezing hard."""

import tl_lightning  # noqa: F401  # first: it lets torchvision, and so lightning, be imported

import lightning as L  # isort: skip
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from tl_lightning import heads, optim
from tl_lightning.backbones import Backbone, Source, Stage
from tl_lightning.data import ImageAugmentation, image_folder
from tl_lightning.inputs import ImageInput
from tl_lightning.module import TransferModule

INPUT = ImageInput(16, 16, 18, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
STAGES = ("stem", "block1", "block2")


class Net(nn.Module):
    """Three convolutional stages with BatchNorm and dropout."""

    def __init__(self):
        super().__init__()
        widths = (3, 4, 6, 8)
        for name, a, b in zip(STAGES, widths, widths[1:], strict=False):
            self.add_module(
                name, nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU(), nn.Dropout(0.2))
            )


def tiny_backbone(pretrained=True):
    torch.manual_seed(1)
    stages = [Stage(name, (name,), lambda net, x, name=name: getattr(net, name)(x)) for name in STAGES]
    return Backbone(Net(), stages, INPUT, 8, source=Source(pretrained=pretrained))


def tiny_data(root, seed=0, batch_size=4, **options):
    options = {"augment": ImageAugmentation(trivial=True), **options}
    return image_folder(INPUT, root=str(root), batch_size=batch_size, workers=0, seed=seed, **options)


def tiny_module(plan, data, lr=1e-2, schedule=None, make=torch.optim.AdamW, pretrained=True, task=None, **options):
    torch.manual_seed(2)
    backbone = tiny_backbone(pretrained)
    head = heads.linear(8, data.task.start(), dropout=0.2)
    return TransferModule(
        backbone,
        head,
        plan,
        task or data.task,
        lambda groups: make(groups, lr=lr),
        schedule or optim.cosine(),
        **options,
    )


class Trace(Callback):
    """What was true at every training step: rates by group, who had gradients, and whatever `look` returns."""

    def __init__(self, look=None):
        self.look, self.rates, self.open, self.seen = look, [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        groups = trainer.optimizers[0].param_groups
        self.rates.append({g["name"]: g["lr"] for g in groups})
        self.open.append(frozenset(n for n, p in module.named_parameters() if p.requires_grad))
        if self.look:
            self.seen.append(self.look(module, batch))


def tiny_trainer(folder, epochs, *callbacks, **options):
    keep = ModelCheckpoint(folder / "checkpoints", save_last=True, save_on_train_epoch_end=True, save_top_k=0)
    return L.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[keep, *callbacks], logger=False,
        use_distributed_sampler=False, enable_progress_bar=False, enable_model_summary=False,
        gradient_clip_val=1.0, log_every_n_steps=1, **{"num_sanity_val_steps": 0, **options},
    )  # fmt: skip
