"""A stretch of a library's own forward, for networks whose top level is more than one module after another.

Masks, rotary positions and the like are made by the library between its modules. So a stage is run by calling the
library's forward, in which the modules before the stage cost nothing, its first module is given the stage's input, and
which is left where the next stage begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tl_lightning.backbones.backbone import evaluating

Forward = Callable[..., Any]


class _Left(Exception):
    """Carries what the next stage is given."""

    def __init__(self, value: Any) -> None:
        super().__init__("left")
        self.value = value


def stretch(
    net: nn.Module,
    call: Callable[[], Any],
    skipped: Mapping[str, Any],
    enter: tuple[str, Tensor] | None,
    leave: str | None,
    shown: Mapping[str, Callable[[Any], None]] | None = None,
) -> Any:
    """What `call`, a forward pass of `net`, gives with some of its modules replaced.

    `skipped`: what modules give without being run. `enter`: the module whose first argument is replaced. `leave`: the
    module whose first argument is the result; None: the pass goes on to its end. `shown`: who is shown the first
    argument of a module that is run.
    """
    replaced: dict[str, Forward] = {name: _constant(value) for name, value in skipped.items()}
    replaced |= {name: _shown(net.get_submodule(name), see) for name, see in (shown or {}).items()}
    if enter is not None:
        replaced[enter[0]] = _given(net.get_submodule(enter[0]), enter[1])
    if leave is not None:
        replaced[leave] = _leave
    with forwards(net, replaced):
        try:
            return call()
        except _Left as left:
            return left.value


@contextmanager
def forwards(net: nn.Module, replaced: Mapping[str, Forward]) -> Iterator[None]:
    """While inside, the named modules of `net` compute something else."""
    modules = {name: net.get_submodule(name) for name in replaced}
    own = {name: module.__dict__.get("forward") for name, module in modules.items()}
    for name, module in modules.items():  # past nn.Module: an attribute of the instance hides the method
        module.__dict__["forward"] = replaced[name]
    try:
        yield
    finally:
        for name, module in modules.items():
            if own[name] is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = own[name]


def _constant(value: Any) -> Forward:
    return lambda *args, **kwargs: value


def _given(module: nn.Module, x: Tensor) -> Forward:
    run = module.forward

    def forward(first: Any = None, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("hidden_states", None)
        return run(x, *args, **kwargs)

    return forward


def _shown(module: nn.Module, see: Callable[[Any], None]) -> Forward:
    run = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        see(_first(args, kwargs))
        return run(*args, **kwargs)

    return forward


def _leave(*args: Any, **kwargs: Any) -> Any:
    raise _Left(_first(args, kwargs))


def _first(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else kwargs["hidden_states"]


class Calls:
    """Notes in which order modules are called, with what, and what they give."""

    def __init__(self, net: nn.Module, names: list[str]) -> None:
        self.order: list[str] = []
        self.inputs: dict[str, tuple[Any, ...]] = {}
        self.outputs: dict[str, Any] = {}
        self._hooks = []
        for name in names:
            module = net.get_submodule(name)
            self._hooks.append(module.register_forward_pre_hook(self._before(name), with_kwargs=True))
            self._hooks.append(module.register_forward_hook(self._after(name)))

    def _before(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.order.append(name)
            self.inputs[name] = (*args, *kwargs.values())

        return hook

    def _after(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.outputs[name] = output

        return hook

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()


def begins(calls: Calls, name: str) -> bool:
    """Whether one tensor enters there, once, and beside it nothing that is learned."""
    if calls.order.count(name) != 1 or calls.order.index(name) == 0:
        return False
    first, *rest = calls.inputs[name] or (None,)
    return isinstance(first, Tensor) and not any(t.requires_grad for t in tensors(rest))


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors, of any shape, in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same tuples and lists with their tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(mapped(v, change) for v in value) if isinstance(value, (tuple, list)) else value


@torch.no_grad()
def agree(net: nn.Module, runs: Sequence[Callable[[Any, Any], Tensor]], x: Any, expected: Tensor) -> bool:
    """Whether stages one after another give what is expected, in evaluation."""
    with evaluating(net):
        for run in runs:
            x = run(net, x)
    return x.shape == expected.shape and torch.allclose(x, expected, rtol=1e-4, atol=1e-4)


def units(net: nn.Module, inside: Sequence[str], prefix: str = "") -> list[str]:
    """Names of the largest modules that are called as such and hold none of the named ones."""
    found = []
    for name, child in net.named_children():
        whole = prefix + name
        opened = any(n.startswith(whole + ".") for n in inside) or type(child) in (nn.ModuleList, nn.ModuleDict)
        found += units(child, inside, whole + ".") if opened else [whole]
    return found


def owners(net: nn.Module, order: Sequence[str], starts: Sequence[str]) -> list[tuple[str, ...]]:
    """The prefixes of every stage, for units called in `order`, of which `starts` begin all stages but the first.

    What is never called as a module, parameters by themselves included, belongs to the first stage, from which later
    ones may read it.
    """
    bounds = [0, *(order.index(s) for s in starts), len(order)]
    called = [list(dict.fromkeys(order[a:b])) for a, b in pairwise(bounds)]
    known = [name for stage in called for name in stage]
    loose = [n for n, _ in net.named_parameters() if not any(n == k or n.startswith(k + ".") for k in known)]
    return [(*called[0], *loose), *(tuple(stage) for stage in called[1:])]
