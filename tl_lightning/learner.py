"""What those who watch and steer a learner may ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from tl_lightning.backbones.backbone import Backbone
from tl_lightning.strategies.members import Members
from tl_lightning.strategies.plan import Plan
from tl_lightning.tasks.task import Task

if TYPE_CHECKING:
    import lightning as L
    from torch import Tensor, nn
    from torchmetrics import Metric, MetricCollection


class Learner(Protocol):
    """A backbone and a head that obey a plan. Batches enter at stage `input_stage`."""

    backbone: Backbone
    head: nn.Module
    plan: Plan
    task: Task
    members: Members
    input_stage: int
    latest_loss: Tensor | None

    def meters(self, split: str) -> tuple[MetricCollection, Metric | None]:
        """Scores and overview of "val" or "test" since the last report."""


def learner(module: L.LightningModule) -> Learner:
    """The module that a callback is handed, as what it is here."""
    return cast(Learner, module)
