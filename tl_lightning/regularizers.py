"""Terms beside cross-entropy that hold on to what the network knew. Strengths are those of the papers' own code.

Each is built from the backbone as it was pretrained, before anything moves, and asked once per training batch.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tl_lightning import checks
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.folding import fold
from tl_lightning.batch import Inputs
from tl_lightning.errors import UserError


@dataclass(frozen=True)
class Pass:
    """A training batch on its way: what entered stage `start`, the outputs of every stage from there on, the targets.

    `outputs` (N, ...), the last as `features` (N, D). `targets` (N,) are class indices, or (N, C) after mixing.
    """

    start: int
    entered: Inputs
    outputs: list[Tensor]
    features: Tensor
    targets: Tensor


class Regularizer(nn.Module):
    """A term to add to the training loss.

    What it keeps of the source are parameters without gradients, so that a checkpoint holds it. `learns`: modules of
    its own that are trained, as fast as the last stage. `asks_source`: it must be told what the source's classifier
    says of the training images (`tell`).
    """

    asks_source = False

    @property
    def learns(self) -> nn.Module | None:
        """A module that is trained along."""
        return None

    def tell(self, relationship: np.ndarray) -> None:
        """(C, Z): mean probabilities of the source's classes over the images of each target class."""

    def forward(self, batch: Pass, backbone: Backbone, head: nn.Module) -> Tensor:
        """The term, a scalar."""
        raise NotImplementedError


def none(backbone: Backbone) -> None:
    """No term."""


class L2SP(Regularizer):
    """strength / 2 x squared distance of the pretrained parameters from where they started (arXiv:1802.01483).

    `head_strength` holds the new head to zero in the same way.
    """

    def __init__(self, backbone: Backbone, *, strength: float = 0.1, head_strength: float = 0.01) -> None:
        super().__init__()
        checks.number("regularizer.strength", strength, 0)
        checks.number("regularizer.head_strength", head_strength, 0)
        self.strength, self.head_strength = strength, head_strength
        self.start = nn.ParameterList(
            nn.Parameter(p.detach().clone(), requires_grad=False) for p in backbone.net.parameters()
        )

    def forward(self, batch: Pass, backbone: Backbone, head: nn.Module) -> Tensor:
        """The term, a scalar."""
        pairs = zip(backbone.net.parameters(), self.start, strict=True)
        moved = [(p - start).square().sum() for p, start in pairs if p.requires_grad]
        grown = [p.square().sum() for p in head.parameters() if p.requires_grad]
        zero = batch.features.new_zeros(())
        return self.strength / 2 * sum(moved, zero) + self.head_strength / 2 * sum(grown, zero)


class _Source(Regularizer):
    """A regularizer that asks the pretrained network itself, on the same pixels."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.source = copy.deepcopy(backbone).eval().requires_grad_(False)
        fold(self.source.net)

    def train(self, mode: bool = True) -> _Source:
        """The pretrained network stays in evaluation mode."""
        super().train(mode)
        self.source.eval()
        return self

    @torch.no_grad()
    def was(self, batch: Pass) -> list[Tensor]:
        """What the stages (N, ...), the last as features (N, D), gave before fine-tuning."""
        return self.source.outputs(batch.entered, batch.start)


class LwF(_Source):
    """strength x KL(softmax(old / T) || softmax(new / T)) of the source's own logits (arXiv:1606.09282).

    The source's classifier stays as it is; T = `temperature`.
    """

    def __init__(self, backbone: Backbone, *, strength: float = 4.0, temperature: float = 3.0) -> None:
        super().__init__(backbone)
        checks.number("regularizer.strength", strength, 0)
        checks.number("regularizer.temperature", temperature, 1e-6)
        self.strength, self.temperature = strength, temperature
        self.source_head = _source_head(backbone, "lwf").requires_grad_(False)

    def forward(self, batch: Pass, backbone: Backbone, head: nn.Module) -> Tensor:
        """The term, a scalar."""
        with torch.no_grad():
            old = (self.source_head(self.was(batch)[-1]) / self.temperature).softmax(1)
        new = (self.source_head(batch.features) / self.temperature).log_softmax(1)
        return self.strength * F.kl_div(new, old, reduction="batchmean")


class CoTuning(Regularizer):
    """strength x cross-entropy of the source's classifier with what it says of an image's class on average.

    Co-Tuning (NeurIPS 2020): a target class is a mixture of source classes, so the source's classifier is trained
    along, towards the mean of its own probabilities over the class.
    """

    asks_source = True
    relationship: Tensor

    def __init__(self, backbone: Backbone, *, strength: float = 2.3) -> None:
        super().__init__()
        checks.number("regularizer.strength", strength, 0)
        self.strength = strength
        self.source_head = _source_head(backbone, "co_tuning")
        self.register_buffer("relationship", torch.zeros(0, 0))

    @property
    def learns(self) -> nn.Module | None:
        """The source's classifier."""
        return self.source_head

    def tell(self, relationship: np.ndarray) -> None:
        """Targets (C, source classes) for the source's classifier."""
        device = self.relationship.device
        self.relationship = torch.as_tensor(relationship, dtype=torch.float32, device=device)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        if f"{prefix}relationship" in state:  # of a size that only a finished pass knows
            self.relationship = torch.empty_like(state[f"{prefix}relationship"], device=self.relationship.device)
        super()._load_from_state_dict(state, prefix, *rest)

    def forward(self, batch: Pass, backbone: Backbone, head: nn.Module) -> Tensor:
        """The term, a scalar."""
        targets = batch.targets
        mixed = targets.to(self.relationship) @ self.relationship if targets.is_floating_point() else None
        wanted = self.relationship[targets] if mixed is None else mixed
        return self.strength * F.cross_entropy(self.source_head(batch.features), wanted)


class Delta(_Source):
    """strength x distance of the stages' outputs from those before fine-tuning, on the same images.

    DELTA (arXiv:1901.09229) with equal attention for all channels: half the squared distance of each map per
    position, averaged over channels, summed over stages. `head_strength` / 2 x the head's squared length is added.
    """

    def __init__(self, backbone: Backbone, *, strength: float = 0.01, head_strength: float = 0.01) -> None:
        super().__init__(backbone)
        checks.number("regularizer.strength", strength, 0)
        checks.number("regularizer.head_strength", head_strength, 0)
        self.strength, self.head_strength = strength, head_strength

    def forward(self, batch: Pass, backbone: Backbone, head: nn.Module) -> Tensor:
        """The term, a scalar."""
        terms = []
        for new, old in zip(batch.outputs, self.was(batch), strict=True):
            positions = new[0, 0].numel() if new.ndim == 4 else 1
            terms.append((new - old).square().sum() / (2 * positions * len(new)))
        grown = [p.square().sum() for p in head.parameters() if p.requires_grad]
        zero = batch.features.new_zeros(())
        return self.strength * sum(terms, zero) + self.head_strength / 2 * sum(grown, zero)


class BSS(Regularizer):
    """strength x the squares of the `smallest` least singular values of a batch's features.

    Batch spectral shrinkage (NeurIPS 2019): the directions that hardly vary are those that do not transfer.
    """

    def __init__(self, backbone: Backbone, *, strength: float = 1e-3, smallest: int = 1) -> None:
        super().__init__()
        checks.number("regularizer.strength", strength, 0)
        checks.whole("regularizer.smallest", smallest, 1)
        self.strength, self.smallest = strength, smallest

    def forward(self, batch: Pass, backbone: Backbone, head: nn.Module) -> Tensor:
        """The term, a scalar."""
        values: Tensor = torch.linalg.svdvals(batch.features.float())
        return self.strength * values[-self.smallest :].square().sum()


def _source_head(backbone: Backbone, name: str) -> nn.Module:
    if backbone.source_head is None:
        raise UserError(
            f"regularizer={name} needs the classifier that the weights were pretrained with, and these have none: "
            "take regularizer=l2_sp, or other weights"
        )
    return copy.deepcopy(backbone.source_head)
