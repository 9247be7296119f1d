"""A backbone: an untouched library network seen as an ordered list of named stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tl_lightning.errors import UserError, nearest
from tl_lightning.inputs import ImageInput, TextInput


@dataclass(frozen=True)
class Stage:
    """One named stretch of a network.

    `prefixes` are dotted names of parameters or modules ("layer1", "class_token"); together they own every
    parameter and every module whose behaviour depends on training mode. `run` takes (net, input) to the output.
    """

    name: str
    prefixes: tuple[str, ...]
    run: Callable[[Any, Tensor], Tensor]

    def owns(self, name: str) -> bool:
        """Whether a dotted parameter or module name lies under one of the prefixes."""
        return any(name == p or name.startswith(p + ".") for p in self.prefixes)


Watcher = Callable[[int, Tensor], None]  # is shown the number of a stage and its output


class Between(Protocol):
    """Runs several stages at once, for less than one after another."""

    def __call__(self, net: Any, x: Tensor, start: int, stop: int, watch: Watcher | None = None) -> Tensor:
        """The output of stage stop-1 for that of stage start-1; `watch` is shown those of the stages in between."""


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """While inside, every module is in evaluation mode."""
    modes = {m: m.training for m in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def one(between: Between, index: int, net: Any, x: Tensor) -> Tensor:
    """Runs one stage."""
    return between(net, x, index, index + 1)


def pool_map(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C) by the spatial mean."""
    return x.mean((2, 3))


class Backbone(nn.Module):
    """What is transferred: `net` as its library built it, less the classifier, run stage by stage.

    The last stage ends in the pooled vector that the library feeds to its classifier. `pool` reduces the output
    of any earlier stage to (N, C). `source_head` is the classifier taken off, from features to the source's classes,
    whose names are `source_classes`: no part of the parameters, kept because it says what the features meant.
    `pretrained` is False where the weights are random; `gentle` is True where photographs taught them what high rates
    would destroy, which drawn images do not. `save`, if given, writes what the library needs to build the network again
    into a folder. `between`, if given, runs several stages at once. `watch`, if set, is shown the output of every stage
    that is run.
    """

    source_head: nn.Module | None

    def __init__(
        self,
        net: nn.Module,
        stages: Sequence[Stage],
        input: ImageInput | TextInput,
        feature_dim: int,
        *,
        pool: Callable[[Tensor], Tensor] = pool_map,
        source_head: nn.Module | None = None,
        source_classes: Sequence[str] = (),
        pretrained: bool = True,
        gentle: bool | None = None,
        save: Callable[[Path], None] | None = None,
        between: Between | None = None,
    ) -> None:
        super().__init__()
        self.net, self.stages, self.input, self.feature_dim = net, tuple(stages), input, feature_dim
        self.pool, self.pretrained = pool, pretrained
        self.gentle = pretrained if gentle is None else gentle
        self.taps: tuple[int, ...] = ()  # stages whose outputs make the features; empty: the last one alone
        self.scaled = True  # taps to unit root mean square
        self.source_classes = tuple(source_classes)
        self.save, self.between = save, between
        self.watch: Watcher | None = None
        self.__dict__["source_head"] = source_head  # past nn.Module, which would register its parameters

    @property
    def stage_names(self) -> list[str]:
        """Names in running order."""
        return [s.name for s in self.stages]

    def index(self, name: str) -> int:
        """Position of a stage; UserError with the nearest names if there is none."""
        if name not in self.stage_names:
            raise UserError(f"this backbone has no stage '{name}': {nearest(name, self.stage_names)}")
        return self.stage_names.index(name)

    def run(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run stages start..stop-1 (default: to the end) on the output of stage start-1, or on what a net is fed."""
        return self._run(x, start, len(self.stages) if stop is None else stop, self.watch)

    def _run(self, x: Tensor, start: int, stop: int, watch: Watcher | None) -> Tensor:
        if self.between is not None and start < stop:
            x = self.between(self.net, x, start, stop, watch)
            if watch is not None:
                watch(stop - 1, x)
            return x
        for i in range(start, stop):
            x = self.stages[i].run(self.net, x)
            if watch is not None:
                watch(i, x)
        return x

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Normalised images (N, 3, H, W), tokens (N, T, 3) or the output of stage start-1, to (N, feature_dim)."""
        if start == len(self.stages):
            return x
        if not self.taps:
            return self.run(x, start)
        if start:
            raise ValueError("the features are taken from stages that lie below the start")
        parts: list[Tensor] = []

        def keep(i: int, output: Tensor) -> None:
            if self.watch is not None:
                self.watch(i, output)
            if i in self.taps:
                parts.append(rms_normalise(self.tap(output)) if self.scaled else self.tap(output))

        self._run(x, 0, len(self.stages), keep)
        return torch.cat(parts, 1)

    def below(self, images: Tensor, boundary: int) -> Tensor:
        """What `forward(..., start=boundary)` goes on from."""
        return self(images) if boundary == len(self.stages) else self.run(images, 0, boundary)

    def tap(self, x: Tensor) -> Tensor:
        """A stage's output as one vector per image."""
        return x if x.ndim == 2 else self.pool(x)

    def stage_parameters(self, stage: Stage) -> Iterator[tuple[str, nn.Parameter]]:
        """The named parameters that a stage owns."""
        return ((n, p) for n, p in self.net.named_parameters() if stage.owns(n))

    def stage_modules(self, stage: Stage) -> Iterator[nn.Module]:
        """The modules that a stage owns, at every depth."""
        return (m for n, m in self.net.named_modules() if stage.owns(n))

    def cut(self, upto: str) -> Backbone:
        """The backbone that ends after stage `upto`; its features are the pooled outputs of all stages left.

        Each tap is normalised to unit root mean square, so that no stage outweighs another (Head2Toe,
        arXiv:2201.03529, does the same with unit L2 norm). Later stages are taken out of the network.
        """
        last = self.index(upto)
        whole = last + 1 == len(self.stages)
        self.drop(last + 1)
        return self._tapped(whole)

    def every(self) -> Backbone:
        """The whole backbone, cut after its last stage: its features are the pooled outputs of all of them."""
        return self.cut(self.stage_names[-1])

    def tapped(self) -> Backbone:
        """The same network, whose features are the pooled outputs of all stages side by side, as they are."""
        every = self._tapped(whole=True)
        every.scaled = False
        return every

    def _tapped(self, whole: bool) -> Backbone:
        every = self._like(sum(self.widths()), whole)
        every.taps = tuple(range(len(self.stages)))
        return every

    def plain(self) -> Backbone:
        """The same network with the last stage's features alone."""
        return self._like(self.widths()[-1], whole=True)

    def _like(self, feature_dim: int, whole: bool) -> Backbone:
        return Backbone(
            self.net,
            self.stages,
            self.input,
            feature_dim,
            pool=self.pool,
            source_head=self.source_head if whole else None,
            source_classes=self.source_classes,
            pretrained=self.pretrained,
            gentle=self.gentle,
            save=self.save,
            between=self.between,
        )

    def drop(self, start: int) -> None:
        """Take the stages from `start` on out of the network."""
        for stage in self.stages[start:]:
            for prefix in stage.prefixes:
                _remove(self.net, prefix)
        self.stages = self.stages[:start]

    @torch.no_grad()
    def widths(self, stop: int | None = None) -> list[int]:
        """Length of the pooled output of every stage (up to `stop`), found by running a blank input."""
        x, widths = self.input.blank(next(self.net.parameters())), []
        with evaluating(self):
            for stage in self.stages[:stop]:
                x = stage.run(self.net, x)
                widths.append(self.tap(x).shape[1])
        return widths


def rms_normalise(x: Tensor) -> Tensor:
    """Rows scaled to unit root mean square; a zero row stays zero."""
    return x * (x.square().mean(1, keepdim=True) + 1e-12).rsqrt()  # by hand: exporters do not know F.rms_norm


def _remove(net: nn.Module, name: str) -> None:
    """Replace the module (or drop the parameter) at a dotted name, so that nothing of it is kept or saved.

    What stands in its place has its plain attributes, which the library's forward may read.
    """
    parent_name, _, child = name.rpartition(".")
    parent = net.get_submodule(parent_name)
    if child in parent._parameters:
        parent.register_parameter(child, None)
    else:
        empty, old = nn.Identity(), parent.get_submodule(child)
        empty.__dict__ |= {k: v for k, v in vars(old).items() if isinstance(v, (bool, int, float, str)) and k[0] != "_"}
        setattr(parent, child, empty)
