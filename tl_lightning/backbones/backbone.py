"""A backbone: an untouched library network seen as an ordered list of named stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tl_lightning.backbones.library import Library, Observer, RunStages, Source
from tl_lightning.batch import Inputs
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
    run: Callable[[Any, Any], Tensor]

    def owns(self, name: str) -> bool:
        """Whether a dotted parameter or module name lies under one of the prefixes."""
        return any(name == p or name.startswith(p + ".") for p in self.prefixes)


class Reader(Protocol):
    """Makes features (N, D) of more than the last stage's output."""

    def __call__(self, backbone: Backbone, x: Inputs) -> Tensor:
        """The features of what a network is fed."""


def pool_map(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C) by the spatial mean."""
    return x.mean((2, 3))


def flat_or(pool: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`pool` for outputs (N, ...) that are no vectors (N, C) yet: a fully connected stage gives these already."""
    return lambda x: x if x.ndim == 2 else pool(x)


class Backbone(nn.Module):
    """What is transferred: `net` as its library built it, less the classifier, run stage by stage.

    The last stage gives a dense output, of which `readout` (net, output) makes the vector (N, feature_dim) that the
    library feeds to its classifier. `pool` reduces the output of any earlier stage to (N, C). Of the classifier in
    `source` nothing is among the parameters: it is kept because it says what the features meant.
    """

    source_head: nn.Module | None

    def __init__(
        self,
        net: nn.Module,
        stages: Sequence[Stage],
        input: ImageInput | TextInput,
        feature_dim: int,
        *,
        readout: Callable[[Any, Tensor], Tensor] = lambda net, x: pool_map(x),
        pool: Callable[[Tensor], Tensor] = pool_map,
        source: Source | None = None,
        library: Library | None = None,
    ) -> None:
        super().__init__()
        self.net, self.stages, self.input, self.feature_dim = net, tuple(stages), input, feature_dim
        self.readout, self.pool = readout, flat_or(pool)
        self.library = library or Library()
        self.reader: Reader | None = None  # None: the features are read from the last stage alone
        self._observers: list[Observer] = []
        source = source or Source()
        self.pretrained, self.small_rates = source.pretrained, source.pretrained and source.small_rates
        self.source_known = True  # whether the weights are those of before fine-tuning
        self.all_layers, self.source_classes, self.licence = source.all_layers, source.classes, source.licence
        self.__dict__["source_head"] = source.head  # past nn.Module, which would register its parameters

    def await_weights(self) -> None:
        """Be a pretrained network whose weights a checkpoint brings, not those of before fine-tuning."""
        self.pretrained = self.small_rates = True
        self.source_known = False

    @property
    def stage_names(self) -> list[str]:
        """Names in running order."""
        return [s.name for s in self.stages]

    def index(self, name: str) -> int:
        """Position of a stage. Raises UserError with the nearest names if there is none."""
        if name not in self.stage_names:
            raise UserError(f"this backbone has no stage '{name}': {nearest(name, self.stage_names)}")
        return self.stage_names.index(name)

    @contextmanager
    def observing(self, observer: Observer) -> Iterator[None]:
        """While inside, `observer` is shown the number and the output (N, ...) of every stage that is run."""
        self._observers.append(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    def forget_observers(self) -> None:
        """Begin without any: a copy shall not show its outputs to those of the original."""
        self._observers = []

    def run(self, x: Inputs, start: int = 0, stop: int | None = None) -> Tensor:
        """The output (N, ...) of stage stop-1 (default: the last) for that of stage start-1, or for what is fed."""
        stop = len(self.stages) if stop is None else stop
        observe = self._observe if self._observers else None
        if self.library.run_stages is not None and start < stop:
            output = self.library.run_stages(self.net, x, start, stop, observe)
            if observe:
                observe(stop - 1, output)
            return output
        for i in range(start, stop):
            x = self.stages[i].run(self.net, x)
            if observe:
                observe(i, x)
        return x  # type: ignore[return-value]  # tokens only where no stage is run

    def _observe(self, i: int, output: Tensor) -> None:
        for observer in self._observers:
            observer(i, output)

    def forward(self, x: Inputs, start: int = 0) -> Tensor:
        """Normalised images (N, 3, H, W), tokens (N, T) by name, or what entered stage `start`, to (N, feature_dim).

        Raises ValueError where features are read from stages that lie below the start.
        """
        if start == len(self.stages):  # features already
            return x  # type: ignore[return-value]
        if self.reader is None:
            return self.readout(self.net, self.run(x, start))
        if start:
            raise ValueError("the features are read from stages that lie below the start")
        return self.reader(self, x)

    def below(self, x: Inputs, boundary: int) -> Tensor:
        """What `forward(..., start=boundary)` goes on from: a stage's output (N, ...), or features (N, D)."""
        return self(x) if boundary == len(self.stages) else self.run(x, 0, boundary)

    def pooled(self, i: int, output: Tensor) -> Tensor:
        """The output (N, ...) of stage `i` as one vector (N, C) for each sample."""
        return self.readout(self.net, output) if i == len(self.stages) - 1 else self.pool(output)

    def outputs(self, x: Inputs, start: int = 0) -> list[Tensor]:
        """The outputs (N, ...) of the stages from `start` on, for what enters there; the last as features (N, D)."""
        found: list[Tensor] = []
        with self.observing(lambda i, output: found.append(output)):
            self.run(x, start)
        if found:
            found[-1] = self.readout(self.net, found[-1])
        return found

    def stage_parameters(self, stage: Stage) -> Iterator[tuple[str, nn.Parameter]]:
        """The named parameters that a stage owns."""
        return ((n, p) for n, p in self.net.named_parameters() if stage.owns(n))

    def stage_modules(self, stage: Stage) -> Iterator[nn.Module]:
        """The modules that a stage owns, at every depth."""
        return (m for n, m in self.net.named_modules() if stage.owns(n))

    def drop(self, start: int) -> None:
        """Take the stages from `start` on out of the network."""
        for stage in self.stages[start:]:
            for prefix in stage.prefixes:
                _remove(self.net, prefix)
        self.stages = self.stages[:start]

    @torch.no_grad()
    def widths(self) -> list[int]:
        """Length of the pooled output of every stage, found by running a blank input."""
        found: list[int] = []
        with evaluating(self), self.observing(lambda i, output: found.append(self.pooled(i, output).shape[1])):
            self.run(self.input.blank(next(self.net.parameters())))
        return found


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


def run_one(run_stages: RunStages, index: int, net: Any, x: Any) -> Tensor:
    """The output (N, ...) of stage `index` for that of the stage before."""
    return run_stages(net, x, index, index + 1)


def _remove(net: nn.Module, name: str) -> None:
    """Replace the module (or drop the parameter) at a dotted name, so that nothing of it is kept or saved.

    What stands in its place has its plain attributes, which the library's forward may read.
    """
    parent_name, _, child = name.rpartition(".")
    parent = net.get_submodule(parent_name)
    if child in dict(parent.named_parameters(recurse=False)):
        parent.register_parameter(child, None)
        return
    empty, old = nn.Identity(), parent.get_submodule(child)
    plain = {k: v for k, v in vars(old).items() if isinstance(v, (bool, int, float, str)) and k[0] != "_"}
    empty.__dict__.update(plain)
    setattr(parent, child, empty)
