"""Where a network looks: gradients of an answer at the outputs of a stage."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tl_lightning.backbones.backbone import Backbone, evaluating
from tl_lightning.batch import Inputs, map_tensors
from tl_lightning.errors import UserError

_FEWEST = 4  # places along a side, below which a map says nothing


def grad_cam(network: nn.Sequential, inputs: Inputs, answers: Tensor) -> Tensor:
    """Grad-CAM (arXiv:1610.02391): (N, H, W) in [0, 1] for images (N, 3, H', W') and which output of each (N,).

    At the last stage that has four places along a side and whose places the answer depends on: where a class token
    alone is read, that is the one before the last. Raises UserError for a network without such a stage.
    """
    backbone = _backbone(network)
    widths = backbone.widths()
    stages, score = _run(network, inputs, answers)
    for i in reversed(range(len(stages))):
        places = _places(stages[i], widths[i])
        if places is None:
            continue
        (slope,) = torch.autograd.grad(score, stages[i], retain_graph=True, allow_unused=True)
        if slope is None or not (slopes := places(slope)).any():
            continue
        weights = slopes.mean((1, 2), keepdim=True)
        maps = (weights * places(stages[i].detach())).sum(-1).clamp(min=0)
        scaled: Tensor = maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-12)
        return scaled
    raise UserError("no stage of this network keeps places apart: there is nothing to draw a heat map of")


def token_relevance(network: nn.Sequential, tokens: Inputs, answers: Tensor) -> Tensor:
    """Gradient times input at the embeddings: (N, T) for tokens (N, T) by name and which output of each (N,).

    Positive where a token speaks for the answer. Raises UserError for a network that reads no tokens.
    """
    embeddings, kept = _backbone(network).library.embeddings, list[Tensor]()
    if embeddings is None:
        raise UserError("this network reads no tokens: there is nothing to weigh")
    hook = embeddings.register_forward_hook(lambda module, given, output: kept.append(output))
    try:
        _, score = _run(network, tokens, answers)
    finally:
        hook.remove()
    (slope,) = torch.autograd.grad(score, kept[0])
    relevance: Tensor = (slope * kept[0].detach()).sum(-1)
    return relevance


def _backbone(network: nn.Sequential) -> Backbone:
    backbone = network[0]
    assert isinstance(backbone, Backbone)
    return backbone


def _run(network: nn.Sequential, inputs: Inputs, answers: Tensor) -> tuple[list[Tensor], Tensor]:
    """The outputs (N, ...) of all stages, and the sum of the answers' outputs."""
    stages: list[Tensor] = []
    frozen = [p for p in network.parameters() if not p.requires_grad]
    for parameter in frozen:  # a network of constants has no gradients to show
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad(), evaluating(network):
            with _backbone(network).observing(lambda index, output: stages.append(output)):
                outputs = network(map_tensors(torch.clone, inputs))
            return stages, outputs[torch.arange(len(outputs)), answers].sum()
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _places(output: Tensor, width: int) -> Callable[[Tensor], Tensor] | None:
    """What brings an output (N, ...) of so many channels into (N, H, W, C); None if it has too few places for that."""
    if output.ndim == 4:
        channel = 1 if output.shape[1] == width else 3
        sides = output.shape[2:] if channel == 1 else output.shape[1:3]
        if min(sides) < _FEWEST:
            return None
        return (lambda x: x.permute(0, 2, 3, 1)) if channel == 1 else (lambda x: x)
    if output.ndim == 3:
        side = int(output.shape[1] ** 0.5)
        if side < _FEWEST:
            return None
        # class and register tokens come first
        return lambda x: x[:, -side * side :].reshape(len(x), side, side, x.shape[-1])
    return None
