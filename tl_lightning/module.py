"""The learner: a backbone and a head that obey a plan."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric, MetricCollection

from tl_lightning import fully_sharded, optim
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.folding import Folding
from tl_lightning.backbones.norms import statistics_kept
from tl_lightning.batch import Batch, Inputs, map_tensors
from tl_lightning.callbacks.finite import FiniteSteps
from tl_lightning.callbacks.phases import Phases
from tl_lightning.errors import UserError
from tl_lightning.regularizers import Pass, Regularizer
from tl_lightning.strategies.members import Members
from tl_lightning.strategies.plan import HEAD, SOURCE_HEAD, Plan
from tl_lightning.tasks.task import Task

log = logging.getLogger(__name__)


class TransferModule(L.LightningModule):
    """Backbone and head under one plan, for one task.

    `optimizer` takes parameter groups and gives an optimizer; `schedule` maps (step within a phase, steps of the
    phase) to a multiplier, and is constant if there is none. `regularizer` adds a term to the loss. What enforces the
    plan comes along, under whatever Trainer. Raises ValueError for a plan of other stages than the backbone's.
    """

    plan: Plan
    _members: Members | None

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        plan: Plan,
        task: Task,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        schedule: optim.Curve | None = None,
        regularizer: Regularizer | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.follow(plan)
        self.task = task = task.with_smoothing(from_exact_head=plan.solve and bool(plan.phases))
        self.make_optimizer, self.schedule = optimizer, schedule or optim.constant(warmup=0.0)
        self.regularizer = regularizer
        self.input_stage = 0  # the stage at which batches enter: higher where others compute what lies below
        self.seed = 0  # of what is random in training beside the samples, drawn anew in every epoch
        self.training_loss, self.evaluation_loss = task.training_loss(), task.evaluation_loss()
        scores = task.scores()
        self.val_scores, self.test_scores = scores.clone(prefix="val/"), scores.clone(prefix="test/")
        self.val_overview, self.test_overview = task.overview(), task.overview()
        self._folding = Folding(backbone.net)
        self._optimizer: Optimizer | None = None
        self.latest_loss: Tensor | None = None  # of the last training batch, a scalar
        self._losses: tuple[Tensor, Tensor] | None = None  # of this epoch: their sum, and how many are finite
        self.overviews: dict[str, Tensor] = {}  # by split, of its last report

    @property
    def members(self) -> Members:
        """The stages and the heads with their parameters; looked up once."""
        if self._members is None:
            heads = {HEAD: self.head}
            if self.regularizer and self.regularizer.learns is not None:
                heads[SOURCE_HEAD] = self.regularizer.learns
            self._members = Members(self.backbone, heads, self.plan)
        return self._members

    def follow(self, plan: Plan) -> None:
        """Obey another plan. Raises ValueError for one of other stages than the backbone's."""
        if plan.stages != tuple(self.backbone.stage_names):
            raise ValueError(f"the plan is for stages {plan.stages}, the backbone has {self.backbone.stage_names}")
        self.plan, self._members = plan, None

    def configure_callbacks(self) -> list[Callback]:
        """What enforces the plan, and leaves out steps that would end it."""
        return [Phases(self.seed), FiniteSteps()]

    def configure_model(self) -> None:
        """Under ModelParallelStrategy: the parameters divided over its devices. UserError for what is not done then."""
        if self.device_mesh is not None and not fully_sharded.divided(self.backbone):
            fully_sharded.refuse(self.plan, self.backbone, self.head, self.regularizer)
            fully_sharded.shard(self.backbone, self.head, self.device_mesh["data_parallel"])
            self._members = None  # the parameters are others

    def forward(self, x: Inputs) -> Tensor:
        """Normalised images (N, 3, H, W), tokens (N, T) by name, or what enters at `input_stage`, to (N, C) outputs."""
        with self._folding.active():
            features = self.backbone(self._cast(x), self.input_stage)
            outputs: Tensor = self.head(features)
        return outputs

    def _cast(self, x: Inputs) -> Inputs:
        """Images and activations in the parameters' precision (bf16-true); tokens as they are."""
        cast: Inputs = map_tensors(lambda t: t.to(self.dtype) if t.is_floating_point() else t, x)
        return cast

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The task's loss and the regularizer's term, a scalar. Targets may be mixed, (N, C)."""
        again = optim.in_second_pass(self._optimizer)
        with statistics_kept(self) if again else nullcontext():
            loss = self._plain_loss(batch) if self.regularizer is None else self._held_loss(batch, self.regularizer)
        if not again:
            self._record(loss.detach(), batch_idx)
        return loss * self._window_share(batch_idx)

    def _window_share(self, batch_idx: int) -> float:
        """What makes up for a last window of accumulated batches that is not full: the trainer divides as if it was."""
        window, batches = self.trainer.accumulate_grad_batches, int(self.trainer.num_training_batches)
        rest = batches % window
        return window / rest if rest and batch_idx >= batches - rest else 1.0

    def _plain_loss(self, batch: Batch) -> Tensor:
        loss: Tensor = self.training_loss(self(batch.inputs), batch.targets)
        return loss

    def _held_loss(self, batch: Batch, regularizer: Regularizer) -> Tensor:
        """The loss with a term that looks at the stages' outputs, a scalar."""
        entered, outputs = self._cast(batch.inputs), list[Tensor]()
        with self._folding.active(), self.backbone.observing(lambda i, output: outputs.append(output)):
            features = self.backbone(entered, self.input_stage)
            answers = self.head(features)
        if self.backbone.reader is not None:  # beside the others' the last stage's own
            features = self.backbone.readout(self.backbone.net, outputs[-1])
        looked_at = Pass(self.input_stage, entered, [*outputs[:-1], features], features, batch.targets)
        loss: Tensor = self.training_loss(answers, batch.targets) + regularizer(looked_at, self.backbone, self.head)
        return loss

    def _record(self, loss: Tensor, batch_idx: int) -> None:
        """The loss now and then, and its mean over the epoch: no step waits for the device or for other ranks."""
        self.latest_loss = loss
        finite = torch.isfinite(loss)
        total, number = torch.where(finite, loss, 0.0), finite.to(loss.dtype)
        if batch_idx > 0 and self._losses is not None:
            total, number = self._losses[0] + total, self._losses[1] + number
        self._losses = total, number
        if (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/loss_step", loss, on_step=True, on_epoch=False)
        if self.trainer.is_last_batch:
            self.log("train/loss_epoch", total / number, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)

    def meters(self, split: str) -> tuple[MetricCollection, Metric | None]:
        """Scores and overview of "val" or "test" since the last report."""
        if split == "val":
            return self.val_scores, self.val_overview
        return self.test_scores, self.test_overview

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count one batch; gives its outputs (N, C)."""
        return self._score("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count one batch; gives its outputs (N, C)."""
        return self._score("test", batch)

    def _score(self, split: str, batch: Batch) -> Tensor:
        outputs: Tensor = self(batch.inputs)
        predictions, targets = self.task.predictions(outputs.float()), self.task.true(batch.targets)
        for meter in self.meters(split):
            if meter is not None:
                meter.update(predictions, targets)
        loss = self.evaluation_loss(outputs, batch.targets)
        self.log(f"{split}/loss", loss, batch_size=len(batch), sync_dist=True, on_epoch=True)
        return outputs

    def on_validation_epoch_end(self) -> None:
        """Report the validation split."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Report the test split."""
        self._report("test")

    def _report(self, split: str) -> None:
        scores, overview = self.meters(split)
        seen = None if overview is None else overview.compute()
        if seen is not None:
            self.overviews[split] = seen.cpu()
        values = self.task.reported(scores.compute(), seen)
        self.log_dict(values, sync_dist=True)  # equal on all ranks already; Lightning asks to be told
        for meter in self.meters(split):
            if meter is not None:
                meter.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """All groups that ever learn, from step 0; rates are a pure function of the step."""
        _ = self.trainer.estimated_stepping_batches  # makes the trainer count the batches of an epoch
        optimizer = self.make_optimizer(optim.param_groups(self.members.learning_ever(), new=(HEAD,)))
        self._warn_if_rough(optimizer)
        self._optimizer = optimizer
        scheduler = optim.scheduler(optimizer, self.multiplier)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What the outputs are called."""
        checkpoint["outputs"] = list(self.task.outputs)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises UserError for a checkpoint of other outputs."""
        before = checkpoint.get("outputs", list(self.task.outputs))
        if before != list(self.task.outputs):
            raise UserError(
                f"the checkpoint is of another run: its {self.task.noun} are {', '.join(before[:5])}, here they are "
                f"{', '.join(self.task.outputs[:5])}"
            )

    def on_train_start(self) -> None:
        """Rates of this very step: a resumed run may have another max_epochs than its checkpoint's rates."""
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * self.multiplier(optim.owner_of(group), self.trainer.global_step)

    def multiplier(self, owner: str, step: int) -> float:
        """Speed x schedule of a stage (or the head) at an optimizer step, counted within the step's phase."""
        epochs = self.trainer.max_epochs or 1
        batches = int(self.trainer.num_training_batches)  # known once the loader is, which the optimizer waits for
        per_epoch = max(1, math.ceil(batches / self.trainer.accumulate_grad_batches))
        index = self.plan.index(min(step // per_epoch, epochs - 1))
        first, after = self.plan.span(index, epochs)
        speed = self.plan.speed(index, owner)
        return speed * self.schedule(step - first * per_epoch, (after - first) * per_epoch)

    def _warn_if_rough(self, optimizer: Optimizer) -> None:
        limit = optim.highest_rate(optimizer)
        few_move = self.plan.parameters != "all"  # or new ones
        if limit is None or few_move or not self.backbone.small_rates:
            return
        speeds = [p.speeds[s] for p in self.plan.phases for s in self.plan.stages]
        rate = max(speeds, default=0.0) * max(g["lr"] for g in optimizer.param_groups)
        if rate > limit * 1.001:  # 1e-3 * 0.1 is a little above 1e-4
            log.warning(
                f"pretrained weights will learn at a rate of {rate:.1e}, above {limit:.0e} for "
                f"{type(optimizer).__name__}: expect catastrophic forgetting; lower optimizer.lr or strategy.speed"
            )
