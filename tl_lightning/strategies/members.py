"""Whose parameters are whose, and which of them learn: what a plan means for one learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from tl_lightning.backbones import norms
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.low_rank import LowRank
from tl_lightning.strategies.plan import SOURCE_HEAD, Plan

Named = list[tuple[str, nn.Parameter]]


@dataclass(frozen=True)
class Member:
    """A stage or a head: its named parameters, and its modules at every depth."""

    name: str
    parameters: Named
    modules: list[nn.Module]


def _those_of(kinds: type | tuple[type, ...]) -> Callable[[Member], Named]:
    def chosen(member: Member) -> Named:
        own = {p for m in member.modules if isinstance(m, kinds) for p in m.parameters(recurse=False)}
        return [(name, p) for name, p in member.parameters if p in own]

    return chosen


# Plan.parameters: which of a stage's parameters it means.
_CHOICES: Mapping[str, Callable[[Member], Named]] = {
    "all": lambda member: member.parameters,
    "bias": lambda member: [(name, p) for name, p in member.parameters if name.endswith("bias")],
    "lora": _those_of(LowRank),
    "norm": _those_of(norms.NORM_LAYERS),
}


class Members:
    """The stages of a backbone in order, then the heads, under one plan."""

    def __init__(self, backbone: Backbone, heads: Mapping[str, nn.Module], plan: Plan) -> None:
        self.plan = plan
        stages = [Member(s.name, list(backbone.stage_parameters(s)), list(backbone.stage_modules(s)))
                  for s in backbone.stages]  # fmt: skip
        more = [Member(name, list(m.named_parameters()), list(m.modules())) for name, m in heads.items()]
        self.all: Sequence[Member] = [*stages, *more]

    def learning(self, member: Member) -> Named:
        """The named parameters of a member that learn when it does: of a stage, those that the plan means."""
        is_stage = member.name in self.plan.stages
        return _CHOICES[self.plan.parameters](member) if is_stage else member.parameters

    def learning_ever(self) -> list[tuple[str, Named]]:
        """Name and learning parameters of every member that moves in some phase."""
        return [(m.name, self.learning(m)) for m in self.all if self.plan.learns_ever(m.name)]

    def sizes(self) -> tuple[int, int]:
        """Number of parameters of the network, and of those that learn in some phase."""
        own = [m for m in self.all if m.name != SOURCE_HEAD]
        total = sum(p.numel() for m in own for _, p in m.parameters)
        return total, sum(p.numel() for m in own if self.plan.learns_ever(m.name) for _, p in self.learning(m))

    def apply(self, epoch: int) -> None:
        """Set gradients and modes of every stage and head for one epoch; frozen means neither. Idempotent."""
        index = self.plan.index(epoch)
        for member in self.all:
            moves = self.plan.speed(index, member.name) > 0
            chosen = {p for _, p in self.learning(member)} if moves else set()
            for _, parameter in member.parameters:
                parameter.requires_grad_(parameter in chosen)
                if parameter not in chosen:
                    parameter.grad = None  # a stale gradient would still be stepped on, with its momentum
            for module in member.modules:
                module.training = moves
            if moves and member.name in self.plan.stages:
                norms.set_mode(member.modules, self.plan.norm)
