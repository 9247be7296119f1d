"""FSDP2: the parameters of each stage, their gradients and the optimizer's state divided over the devices."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tl_lightning.backbones.backbone import Backbone, Stage, evaluating
from tl_lightning.backbones.folding import pairs
from tl_lightning.backbones.norms import batch_norms
from tl_lightning.errors import UserError
from tl_lightning.strategies.plan import Plan

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

ModuleT = TypeVar("ModuleT", bound=nn.Module)
NAME = "fsdp2"  # of the strategy, for the Trainer


class FSDP2Strategy(ModelParallelStrategy):
    """Lightning's ModelParallelStrategy with all devices for the data, and each checkpoint one whole file."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Start the process group with a mesh of all devices, whose number the Trainer has found by now."""
        assert self.lightning_module is not None
        refuse_trainer(self.lightning_module.trainer)
        self._data_parallel_size = self.num_processes * self.num_nodes
        super().setup_environment()

    def setup(self, trainer: L.Trainer) -> None:
        """Place the module; evaluate with no_grad, as what FSDP gathers once in inference mode cannot be trained on."""
        for loop in (trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop, trainer.test_loop):
            loop.inference_mode = False
        super().setup(trainer)


StrategyRegistry.register(NAME, FSDP2Strategy, description="FSDP2, a group for each stage", override=True)


def divides(trainer: L.Trainer) -> bool:
    """Whether a Trainer divides what it is given to train."""
    return isinstance(trainer.strategy, FSDP2Strategy)


def refuse_trainer(trainer: L.Trainer) -> None:
    """Raise UserError for what a Trainer does with the whole weights, or has not been tried where they are divided."""
    if any(isinstance(c, WeightAveraging) for c in trainer.callbacks):  # type: ignore[attr-defined]  # not declared
        raise UserError(f"callbacks: weights that are divided ({NAME}) cannot be averaged: leave it out")
    if trainer.precision == "16-mixed":
        raise UserError(f"trainer.precision=16-mixed is not tried with trainer.strategy={NAME}: take bf16-mixed")


def refuse(plan: Plan, backbone: Backbone, head: nn.Module, regularizer: object | None) -> None:
    """Raise UserError for a learner that would be trained differently, or not at all, where it is divided."""
    if len(plan.phases) > 1:
        raise UserError(
            f"trainer.strategy={NAME}: stages cannot thaw in the middle of a run where parameters are divided; take a "
            "strategy of one phase (finetune_all, lp_ft, finetune_top, lora), or trainer.strategy=ddp"
        )
    learning = [m for s in backbone.stages if plan.learns_ever(s.name) for m in backbone.stage_modules(s)]
    if plan.norm != "eval" and batch_norms(learning):
        raise UserError(
            f"trainer.strategy={NAME}: every device would keep BatchNorm's statistics of its own; take "
            "strategy.norm=eval, or trainer.strategy=ddp"
        )
    single = [name for net in (backbone.net, head) for name, p in net.named_parameters() if p.ndim == 0]
    if single:
        raise UserError(
            f"trainer.strategy={NAME}: the parameter {single[0]} is a single number, which cannot be divided; take "
            "another head or backbone, or trainer.strategy=ddp"
        )
    if regularizer is not None:
        raise UserError(
            f"trainer.strategy={NAME}: a regularizer compares whole parameters, which are divided there; take "
            "regularizer=none, or trainer.strategy=ddp"
        )


def shard(backbone: Backbone, head: nn.Module, mesh: DeviceMesh) -> None:
    """Divide every stage by the blocks that it calls, and what lies outside of them with the backbone or the head.

    A group is gathered when its first module runs and let go after its last. A convolution reads the BatchNorm that it
    is folded with, so a stage's lone layers are one group, and pairs that are in no group together are the backbone's.
    """
    with torch.no_grad():
        for parameter in [*backbone.parameters(), *head.parameters()]:
            parameter.data = parameter.data.contiguous()  # of channels_last FSDP knows nothing
    groups = _groups(backbone)
    number = {m: i for i, group in enumerate(groups) for top in group for m in top.modules()}
    folded = [(getattr(parent, conv), getattr(parent, norm)) for parent, conv, norm in pairs(backbone.net)]
    apart = {m for conv, norm in folded if number.get(conv) != number.get(norm) for m in (conv, norm)}
    for group in groups:
        if together := [m for m in group if m not in apart]:
            fully_shard(together, mesh=mesh)
    # after a pass without gradients, too: else parameters would stay gathered, as other objects
    for root in (backbone, head):
        fully_shard(root, mesh=mesh, reshard_after_forward=True)


def whole(tensor: Tensor) -> Tensor:
    """A tensor (any shape) with the parts of all devices; one that is not divided as it is. All ranks must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(module: nn.Module) -> dict[str, Any]:
    """The state of a module that may be divided, on the CPU; empty on all ranks but the first if it is."""
    return get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def plain_copy(module: ModuleT, trainer: L.Trainer) -> ModuleT | None:
    """On the first rank a copy of what will be divided, which can then be neither copied nor exported; else None."""
    return copy.deepcopy(module.cpu()) if divides(trainer) and trainer.is_global_zero else None


def gathered(module: ModuleT, plain: ModuleT | None) -> ModuleT:
    """On the first rank the plain copy of a divided module, with its weights; else the module. All ranks must ask."""
    if not divided(module):
        return module
    state = whole_state(module)
    if plain is None:
        return module
    plain.load_state_dict(state)
    return plain


def load_whole_state(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Load whole tensors, which every rank has, into a module that may be divided. KeyError where one is missing."""
    if not divided(module):
        module.load_state_dict(state)
        return
    if lost := module.state_dict().keys() - state.keys():  # torch would keep what is there
        raise KeyError(f"{min(lost)} is missing among the weights")
    set_model_state_dict(module, dict(state), options=StateDictOptions(full_state_dict=True))


def divided(module: nn.Module) -> bool:
    """Whether devices hold parts of a module's parameters."""
    return any(isinstance(p, DTensor) for p in module.parameters())


@torch.no_grad()
def _ran_once(backbone: Backbone) -> set[nn.Module]:
    """The modules whose forward is called once in a pass: FSDP gathers parameters when it is."""
    calls: Counter[nn.Module] = Counter()
    with ExitStack() as hooks, evaluating(backbone):
        for module in backbone.net.modules():
            handle = module.register_forward_pre_hook(lambda module, _: calls.update([module]))
            hooks.callback(handle.remove)
        backbone(backbone.input.blank(next(backbone.net.parameters())))
    return {module for module, number in calls.items() if number == 1}


def _groups(backbone: Backbone) -> list[list[nn.Module]]:
    """Each block that a stage calls, and the lone layers of each stage."""
    ran, groups = _ran_once(backbone), list[list[nn.Module]]()
    for stage in backbone.stages:
        modules = _topmost(backbone, stage, ran)
        blocks = [m for m in modules if any(True for _ in m.children()) and not batch_norms([m])]
        groups += [[block] for block in blocks]
        groups.append([m for m in modules if m not in blocks])
    return groups


def _topmost(backbone: Backbone, stage: Stage, ran: set[nn.Module]) -> list[nn.Module]:
    """Of a stage's modules with parameters those that run, less what lies within others of them.

    Of a Sequential its parts stand for it: they are gathered one at a time.
    """
    chosen: dict[str, nn.Module] = {}
    for name, module in backbone.net.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in chosen)
        called = module in ran and type(module) is not nn.Sequential
        if called and stage.owns(name) and not inside and any(True for _ in module.parameters()):
            chosen[name] = module
    return list(chosen.values())
