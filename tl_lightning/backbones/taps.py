"""Features read from the pooled outputs of all stages (taps), not of the last one alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from tl_lightning.backbones.backbone import Backbone, Reader
from tl_lightning.batch import Inputs


@dataclass(frozen=True)
class Taps:
    """Reads the pooled outputs of all stages side by side. `scaled`: each to unit root mean square first."""

    scaled: bool = True

    def __call__(self, backbone: Backbone, x: Inputs) -> Tensor:
        """The features (N, sum of widths) of what a network is fed."""
        parts: list[Tensor] = []

        def read(i: int, output: Tensor) -> None:
            pooled = backbone.pooled(i, output)
            parts.append(rms_normalise(pooled) if self.scaled else pooled)

        with backbone.observing(read):
            backbone.run(x)
        return torch.cat(parts, 1)


def read_all_stages(backbone: Backbone, scaled: bool = True) -> Backbone:
    """The same network, its features (N, sum of widths) the pooled outputs of all stages.

    `scaled`: each is normalised to unit root mean square, so that no stage outweighs another (Head2Toe,
    arXiv:2201.03529, does the same with unit L2 norm).
    """
    return _reading(backbone, sum(backbone.widths()), Taps(scaled))


def cut_after(backbone: Backbone, stage: str) -> Backbone:
    """The backbone that ends after a stage, its features the pooled outputs of all that are left; the rest is removed.

    Raises UserError if there is no such stage.
    """
    last = backbone.index(stage)
    if last + 1 == len(backbone.stages):
        return read_all_stages(backbone)
    backbone.drop(last + 1)
    pool = backbone.pool
    backbone.readout = lambda net, x: pool(x)
    backbone.__dict__["source_head"] = None  # it read what is gone
    return read_all_stages(backbone)


def read_last_stage(backbone: Backbone) -> Backbone:
    """The same network, its features those of the last stage alone, as its library reads them."""
    return _reading(backbone, backbone.widths()[-1], None)


def _reading(backbone: Backbone, feature_dim: int, reader: Reader | None) -> Backbone:
    """A view of the same network that reads its features in another way."""
    view = copy.copy(backbone)
    view.feature_dim, view.reader = feature_dim, reader
    view.forget_observers()
    return view


def rms_normalise(x: Tensor) -> Tensor:
    """Rows (N, D) scaled to unit root mean square; a zero row stays zero."""
    return x * (x.square().mean(1, keepdim=True) + 1e-12).rsqrt()  # by hand: exporters do not know F.rms_norm
