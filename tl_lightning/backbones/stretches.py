"""Stages of a network that is fed images, run by its own forward between the modules at which they begin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tl_lightning.backbones import replay
from tl_lightning.backbones.library import Observer, RunStages


def stretches(calls: replay.Calls, starts: Sequence[str], blank: Tensor, method: str) -> RunStages:
    """What runs stages that begin at the modules `starts`, the first at the input, by the network's `method`.

    `calls` were noted in a pass of `blank` images (1, 3, H, W); what they gave stands in for modules before a stage.
    """
    order, bounds = calls.order, [None, *starts, None]
    outputs = {n: replay.mapped(calls.outputs[n], Tensor.detach) for n in dict.fromkeys(order)}
    placed: dict[tuple[torch.device, torch.dtype], dict[str, Any]] = {}  # what skipped modules give, where it is needed
    shape = blank.shape

    def run(net: Any, x: Tensor, start: int, stop: int, observe: Observer | None = None) -> Tensor:
        enter, leave = bounds[start], bounds[stop]
        shown = {str(bounds[i + 1]): partial(observe, i) for i in range(start, stop - 1)} if observe else {}
        forward = getattr(net, method)
        if enter is None:
            found: Tensor = replay.stretch(net, lambda: forward(x), {}, None, leave, shown)
            return found

        def like(tensor: Tensor) -> Tensor:
            return tensor.to(x.device, x.dtype if tensor.is_floating_point() else None)

        known = placed.setdefault((x.device, x.dtype), {})
        for name in order[: order.index(enter)]:
            if name not in known:
                known[name] = replay.mapped(outputs[name], like)
        skipped = {name: known[name] for name in order[: order.index(enter)]}
        found = replay.stretch(net, lambda: forward(x.new_zeros(shape)), skipped, (enter, x), leave, shown)
        return found

    return run
