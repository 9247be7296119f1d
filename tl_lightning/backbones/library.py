"""Where a network comes from: what it was trained on, and what its library adds to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

Observer = Callable[[int, Tensor], None]  # is shown the number of a stage and its output


class RunStages(Protocol):
    """Runs several stages in one pass of the library's forward, for less than one after another."""

    def __call__(self, net: Any, x: Any, start: int, stop: int, observe: Observer | None = None) -> Tensor:
        """The output of stage stop-1 for that of stage start-1; `observe` is shown those of the stages in between."""


@dataclass(frozen=True)
class Source:
    """What a network was trained on before.

    `pretrained` is False where the weights are random. `small_rates`: photographs or texts taught them what high rates
    would destroy, which drawn images do not. `head` is the classifier taken off, from features (N, D) to the source's
    classes, whose names are `classes`. `all_layers`: the last layer is given to what the network was trained for, so
    that a head does better on all of them (language models). `licence` of the weights, empty where nothing states it.
    """

    pretrained: bool = True
    small_rates: bool = True
    head: nn.Module | None = None
    classes: tuple[str, ...] = ()
    all_layers: bool = False
    licence: str = ""


@dataclass(frozen=True)
class Library:
    """What a library adds to its networks: how they run in one pass, and what else they need to be built again.

    `run_stages` None: stages are run one after another. `save` writes configuration and tokenizer into a folder.
    `compiles`: torch.compile takes the network stage by stage. `embeddings`: what makes vectors (N, T, D) of tokens.
    """

    run_stages: RunStages | None = None
    save: Callable[[Path], None] | None = None
    compiles: bool = True
    embeddings: nn.Module | None = None
