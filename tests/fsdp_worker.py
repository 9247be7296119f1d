"""One of two ranks under FSDP2.

torchrun --nproc_per_node=2 -m tests.fsdp_worker families   gradients of every kind of network against the undivided one
python -m tests.fsdp_worker train PHOTOS OUT DEVICES        four epochs, and two epochs that are resumed for two more
"""

import copy
import sys
from pathlib import Path

import torch
import torch.distributed as dist

import tl_lightning  # noqa: F401  # first: it lets torchvision, and so lightning, be imported

import lightning as L  # isort: skip
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from tests import zoo
from tests.tiny import STAGES, tiny_data, tiny_module, tiny_trainer
from tl_lightning import fully_sharded
from tl_lightning.backbones.folding import Folding
from tl_lightning.batch import map_tensors
from tl_lightning.callbacks.forgetting import Forgetting
from tl_lightning.fully_sharded import whole, whole_state
from tl_lightning.strategies import FinetuneAll


def local(tensor):
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Keep(L.Callback):
    """The whole weights after each epoch, and how many numbers this rank holds and optimizes; may end the run."""

    def __init__(self, epochs=None):
        self.last, self.epochs, self.held, self.optimized = epochs, [], 0, 0

    def on_train_epoch_end(self, trainer, module):
        self.epochs.append({name: whole(p).detach().clone() for name, p in module.named_parameters()})
        self.held = sum(local(p).numel() for p in module.parameters())
        states = trainer.optimizers[0].state.values()
        self.optimized = sum(local(state["exp_avg"]).numel() for state in states)
        trainer.should_stop = len(self.epochs) == self.last


def fit(photos, out, devices, keep, checkpoint=None):
    data = tiny_data(photos, batch_size=4 // devices)
    module = tiny_module(FinetuneAll(speed=1.0, decay=1.0, norm="eval").plan(STAGES), data, lr=1e-3)
    for m in module.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    trainer = tiny_trainer(
        out, 4, keep, Forgetting(module), strategy="fsdp2" if devices > 1 else "auto", devices=devices
    )
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return trainer, whole_state(module)


def train(photos, out, devices):
    straight, begun, resumed = Keep(), Keep(epochs=2), Keep()
    trainer, state = fit(photos, out / "straight", devices, straight)
    seen = {name: float(value) for name, value in trainer.callback_metrics.items()}
    fit(photos, out / "stopped", devices, begun)
    fit(photos, out / "stopped", devices, resumed, str(out / "stopped" / "checkpoints" / "last.ckpt"))
    result = {
        "epochs": straight.epochs, "resumed": resumed.epochs, "held": straight.held, "accuracy": seen["val/accuracy"],
        "optimized": straight.optimized, "state": state,
        "forgetting": {name: value for name, value in seen.items() if name.startswith(Forgetting.reported)},
    }  # fmt: skip
    torch.save(result, out / f"rank{trainer.global_rank}of{devices}.pt")
    if dist.is_initialized():
        dist.barrier()


def families(cases):
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    for case in cases:
        network, x = case.build()  # in double precision: random networks blow up what single precision rounds off
        network, x = network.double(), map_tensors(lambda t: t.double() if t.is_floating_point() else t, x)
        for name, parameter in network.named_parameters():  # as where strategies freeze some of them
            parameter.requires_grad_("bias" not in name)
        plain = copy.deepcopy(network)
        torch.manual_seed(0)
        head = nn.Linear(network.feature_dim, 3, dtype=torch.float64)
        other = copy.deepcopy(head)
        fully_sharded.shard(network, head, mesh)
        rows = [map_tensors(lambda t, row=row: t[row : row + 1], x) for row in range(2)]
        with Folding(network.net).active(), Folding(plain.net).active():
            head(network(rows[dist.get_rank()])).square().sum().backward()  # each rank learns from one of the two
            for row in rows:
                (other(plain(row)).square().sum() / 2).backward()
        for (name, expected), found in zip(plain.named_parameters(), network.parameters(), strict=True):
            if expected.grad is not None:
                error = (whole(found.grad) - expected.grad).abs().max() / expected.grad.abs().max().clamp(min=1e-6)
                assert error < 1e-4, (case, name, error)
        held = sum(p.to_local().numel() for p in network.parameters())
        total = sum(p.numel() for p in plain.parameters())
        assert 0.4 < held / total < 0.6, (case, held / total)
        if dist.get_rank() == 0:
            print(case, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "families":
        apart = zoo.Case(
            "timm", "ghostnet_050"
        )  # a convolution and the norm that it is folded with in different stages
        families(zoo.CASES if sys.argv[2:] == ["all"] else [*zoo.FEW, apart])
    else:
        train(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
