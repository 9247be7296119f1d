"""Trains the tiny learner on the devices asked for and writes what each rank ended every epoch with.

python -m tests.ddp_worker PHOTOS OUT DEVICES REWRAP
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

import tl_lightning  # noqa: F401  # first: it lets torchvision, and so lightning, be imported

import lightning as L  # isort: skip

from tests.tiny import STAGES, tiny_data, tiny_module, tiny_trainer
from tl_lightning.callbacks import phases
from tl_lightning.strategies import GradualUnfreeze


class Keep(L.Callback):
    """Every rank's weights after each epoch, and what it was asked to validate."""

    def __init__(self):
        self.epochs, self.validated = [], 0

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        self.validated += len(batch)

    def on_train_epoch_end(self, trainer, module):
        self.epochs.append({k: v.clone() for k, v in module.state_dict().items()})


def main(photos, out, devices, rewrap):
    if not rewrap:
        phases.wrap_again = lambda strategy: None
    data = tiny_data(photos, batch_size=4 // devices)
    module = tiny_module(GradualUnfreeze(speed=0.1, decay=0.5, norm="eval", every=1).plan(STAGES), data)
    for m in module.modules():
        if isinstance(m, torch.nn.Dropout):
            m.p = 0.0
    keep = Keep()
    options = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(Path(out), 4, keep, **options)
    trainer.fit(module, datamodule=data)
    accuracy = float(trainer.callback_metrics["val/accuracy"])
    result = {"epochs": keep.epochs, "validated": keep.validated, "accuracy": accuracy}
    torch.save(result, Path(out) / f"rank{trainer.global_rank}of{devices}.pt")
    if dist.is_initialized():
        dist.barrier()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "rewrap")
