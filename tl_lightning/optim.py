"""Optimizer groups from stages, rates from the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tl_lightning.errors import UserError

# Highest rate for pretrained weights before fine-tuning turns into forgetting, by optimizer family.
_HIGHEST_RATES: tuple[tuple[tuple[type[Optimizer], ...], float], ...] = (
    ((torch.optim.Adam, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam), 1e-4),
    ((torch.optim.SGD,), 1e-2),
)
_NO_DECAY_NAMES = ("pos_embedding", "class_token", "relative_position_bias_table")

Curve = Callable[[int, int], float]  # (step within a phase, steps of the phase) -> multiplier of the base rate


def param_groups(
    owners: Iterable[tuple[str, Sequence[tuple[str, nn.Parameter]]]], new: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Two named groups per owner, `layer4` and `layer4/no_decay`; empty ones are left out.

    Those of owners in `new`, which start from nothing, say so.

    Biases, norms and learned positions take no weight decay: shrinking them towards zero has no meaning.
    """
    groups: list[dict[str, Any]] = []
    for owner, named in owners:
        bare = [p for n, p in named if _is_bare(n, p)]
        decayed = [p for n, p in named if not _is_bare(n, p)]
        groups.append({"name": owner, "params": decayed, "new": owner in new})
        groups.append({"name": f"{owner}/no_decay", "params": bare, "weight_decay": 0.0, "new": owner in new})
    return [g for g in groups if g["params"]]


def _is_bare(name: str, parameter: nn.Parameter) -> bool:
    dimensions = sum(size > 1 for size in parameter.shape)  # a layer scale of shape (C, 1, 1) has one
    return dimensions <= 1 or name.rpartition(".")[2] in _NO_DECAY_NAMES


def owner_of(group: dict[str, Any]) -> str:
    """The stage (or head) that an optimizer group belongs to."""
    name: str = group["name"]
    return name.removesuffix("/no_decay")


def cosine(*, warmup: float = 0.05, end: float = 0.0) -> Curve:
    """Linear warm-up over the fraction `warmup` of a phase, then a half cosine down to `end`.

    Raises ValueError for a share that is none.
    """
    _refuse_warmup(warmup)

    def curve(step: int, steps: int) -> float:
        rise = math.ceil(warmup * steps)
        if step < rise:
            return (step + 1) / (rise + 1)
        progress = (step - rise) / max(1, steps - rise)
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return curve


def constant(*, warmup: float = 0.05) -> Curve:
    """Linear warm-up over the fraction `warmup` of a phase, then the base rate. Raises ValueError for no share."""
    _refuse_warmup(warmup)

    def curve(step: int, steps: int) -> float:
        rise = math.ceil(warmup * steps)
        return (step + 1) / (rise + 1) if step < rise else 1.0

    return curve


def _refuse_warmup(warmup: float) -> None:
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup} is a share of each phase: from 0 to below 1")


def scheduler(optimizer: Optimizer, multiplier: Callable[[str, int], float]) -> LambdaLR:
    """A scheduler that gives each group `multiplier(owner, step)` x its base rate: a pure function of the step."""

    def of(owner: str) -> Callable[[int], float]:
        return lambda step: multiplier(owner, step)

    return LambdaLR(optimizer, [of(owner_of(g)) for g in optimizer.param_groups])


class SAMAdamW(AdamW):
    """AdamW with gradients taken at the worst point within `rho`: sharpness-aware minimisation (arXiv:2010.01412).

    `step` needs a closure, which it runs twice; `second_pass` is True during the second run. Groups of new parameters
    stay where they are for it, unless they alone learn: a head that starts at zero would point the other way there, and
    the features below would learn to tell nothing apart. `trainer_needs`: the values that options of the trainer may
    have. Raises ValueError for a distance `rho` that is not above 0.
    """

    trainer_needs: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "accumulate_grad_batches": (1,),
        "strategy": ("auto", "ddp"),  # what divides parameters steps without a closure where it is resumed
        "precision": ("32-true", "bf16-mixed", "bf16-true"),
    }

    def __init__(self, params: Any, *, rho: float = 0.05, **options: Any) -> None:
        if not rho > 0:
            raise ValueError(f"rho={rho} must be above 0")
        super().__init__(params, **options)
        self.rho, self.second_pass = rho, False

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; gives what the closure gave at the parameters themselves."""
        assert closure is not None, "SAM evaluates the loss itself"
        again = torch.enable_grad()(closure)
        loss = again()
        learning = [(g, p) for g in self.param_groups for p in g["params"] if p.grad is not None]
        stages = [p for g, p in learning if not g.get("new")]
        moved = stages or [p for _, p in learning]
        if not moved:  # the gradients were not finite and are gone
            return loss
        length = torch.stack([p.grad.norm() for p in moved]).norm().clamp(min=1e-12)
        before = [p.clone() for p in moved]
        for p in moved:
            p.add_(p.grad * (self.rho / length))
        self.second_pass = True
        try:
            again()
        finally:
            self.second_pass = False
            for p, start in zip(moved, before, strict=True):
                p.copy_(start)
        super().step()
        return loss


def highest_rate(optimizer: Optimizer) -> float | None:
    """The highest rate that pretrained weights should see under this optimizer; None if its family is unknown."""
    return next((rate for family, rate in _HIGHEST_RATES if isinstance(optimizer, family)), None)


def in_second_pass(optimizer: Optimizer | None) -> bool:
    """Whether an optimizer that looks at every batch twice is at its second look."""
    return bool(getattr(optimizer, "second_pass", False))


def refuse_trainer(optimizer: Optimizer, trainer: Mapping[str, Any]) -> None:
    """Raise UserError for options of the trainer that an optimizer cannot work with."""
    for key, allowed in getattr(optimizer, "trainer_needs", {}).items():
        if trainer.get(key, allowed[0]) not in allowed:
            raise UserError(
                f"{type(optimizer).__name__} looks at every batch twice, which trainer.{key}={trainer[key]} does not "
                f"allow: take {allowed[0]}"
            )
