"""Any nn.Module as a backbone: stages by the names of its modules, or cut along its children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from tl_lightning.backbones import replay
from tl_lightning.backbones.backbone import Backbone, Stage, evaluating, run_one
from tl_lightning.backbones.library import Library, Source
from tl_lightning.backbones.stretches import stretches
from tl_lightning.backbones.weights import first_line
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput

_MOST_STAGES = 6  # a longer chain of children is cut into as many pieces
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and spread


def from_module(
    net: nn.Module,
    stages: Mapping[str, Sequence[str]] | None = None,
    input: ImageInput | int = 224,
    *,
    pretrained: bool = True,
) -> Backbone:
    """A network without classifier, from images (N, 3, H, W) to features (N, D) or maps (N, D, H, W), as a Backbone.

    `stages`: by name, in the order in which they run, the modules (and parameters) that each owns, as dotted names;
    None: its children, or pieces of a long chain of them. `input`: pixels, under ImageNet's mean and spread, or an
    ImageInput. `pretrained`: whether the weights know photographs. The contract is checked: every parameter in exactly
    one stage, and stages one after another give what the network gives. Raises UserError, which names what is missing.
    """
    image = ImageInput(input, input, round(input / 0.875), "bilinear", *_IMAGENET) if isinstance(input, int) else input
    parameters = {name for name, _ in net.named_parameters()}
    if stages is not None:
        _refuse_owners(net, stages, parameters)
    blank = torch.zeros(1, 3, image.eval_size, image.eval_size)
    wanted = [name for names in stages.values() for name in names] if stages else []
    try:
        with torch.no_grad(), evaluating(net), replay.Calls(net, replay.units(net, wanted)) as calls:
            output = net(blank)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(
            f"{_name(net)} does not take images of {image.eval_size} pixels: {first_line(error)}"
        ) from error
    if not isinstance(output, Tensor) or output.ndim not in (2, 4):
        raise UserError(f"{_name(net)} must give features (N, D) or maps (N, D, H, W), not {_shape(output)}")
    named, starts = _by_name(net, stages, calls) if stages else _along_children(net, calls)
    run_stages = stretches(calls, starts, blank, "forward")
    made = [Stage(name, owned, partial(run_one, run_stages, i)) for i, (name, owned) in enumerate(named.items())]
    _refuse_difference(net, made, torch.randn(2, 3, image.eval_size, image.eval_size))
    source, runs = Source(pretrained=pretrained, small_rates=pretrained), Library(run_stages, compiles=False)
    return Backbone(net, made, image, output.shape[1], readout=_readout, source=source, library=runs)


def _by_name(
    net: nn.Module, stages: Mapping[str, Sequence[str]], calls: replay.Calls
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """What each stage owns, and the modules at which all but the first begin."""
    starts = []
    for name, owned in list(stages.items())[1:]:
        called = [unit for unit in calls.order if any(unit == o or unit.startswith(f"{o}.") for o in owned)]
        if not called or not replay.begins(calls, called[0]):
            raise UserError(
                f"{_name(net)}: stage '{name}' ({', '.join(owned)}) cannot begin where it does: one tensor must enter "
                "there, once; name the modules in the order in which they run, or join it with the stage before"
            )
        starts.append(called[0])
    if [calls.order.index(s) for s in starts] != sorted(calls.order.index(s) for s in starts):
        raise UserError(f"{_name(net)}: the stages {', '.join(stages)} run in another order than they are named in")
    return {name: tuple(owned) for name, owned in stages.items()}, starts


def _along_children(net: nn.Module, calls: replay.Calls) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The same, found: a stage begins wherever one tensor enters a child that learns something."""
    learning = {n for n, m in net.named_children() if any(True for _ in m.parameters())}
    starts = [n for n in calls.order if n in learning and replay.begins(calls, n)]
    if len(starts) >= _MOST_STAGES:
        starts = [starts[len(starts) * k // _MOST_STAGES] for k in range(_MOST_STAGES)][1:]
    if not starts:
        raise UserError(
            f"{_name(net)} cannot be cut along its children: one tensor must enter each, once; name its stages: "
            "from_module(net, {'stem': ['conv1', 'bn1'], 'body': ['layers']})"
        )
    owners = replay.owners(net, calls.order, starts)
    return dict(zip(["stem", *(f"stage{i}" for i in range(1, len(owners)))], owners, strict=True)), starts


def _refuse_owners(net: nn.Module, stages: Mapping[str, Sequence[str]], parameters: set[str]) -> None:
    """Raise UserError unless every parameter is in exactly one stage."""
    known = {name for name, _ in net.named_modules()} | parameters
    if strange := [
        f"{name} of stage '{stage}'" for stage, names in stages.items() for name in names if name not in known
    ]:
        raise UserError(f"{_name(net)} has no module or parameter {strange[0]}")
    owners = {
        p: [s for s, names in stages.items() if any(p == n or p.startswith(f"{n}.") for n in names)] for p in parameters
    }
    if missing := sorted(p for p, found in owners.items() if not found):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"{_name(net)}: no stage owns {', '.join(missing[:3])}{more}: add them to one")
    if twice := sorted(p for p, found in owners.items() if len(found) > 1):
        raise UserError(f"{_name(net)}: {twice[0]} is in the stages {' and '.join(owners[twice[0]])}: leave it in one")


def _refuse_difference(net: nn.Module, stages: Sequence[Stage], images: Tensor) -> None:
    """Raise UserError unless the stages give what the network gives."""
    with torch.no_grad(), evaluating(net):
        expected = net(images)
    if not replay.agree(net, [s.run for s in stages], images, expected):
        raise UserError(f"{_name(net)}: its stages one after another give something else than the network does")


def _readout(net: nn.Module, x: Tensor) -> Tensor:
    return x if x.ndim == 2 else x.mean((2, 3))


def _name(net: nn.Module) -> str:
    return type(net).__name__


def _shape(output: object) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
