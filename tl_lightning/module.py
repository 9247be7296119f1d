"""The learner: a backbone and a head that obey a plan."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix

from tl_lightning import metrics, optim
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.folding import Folding
from tl_lightning.regularizers import Regularizer, Seen
from tl_lightning.strategies.plan import HEAD, SOURCE_HEAD, Plan

log = logging.getLogger(__name__)

NORM_LAYERS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)


class TransferModule(L.LightningModule):
    """Backbone and head under one plan.

    `optimizer` takes parameter groups and gives an optimizer; `schedule` maps (step within a phase, steps of the
    phase) to a multiplier. `class_weights` (C,) scale the training loss; validation reports the plain one.
    `regularizer` adds a term to it. `multi`: labels are (N, C), a sample may have several classes or none.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        plan: Plan,
        classes: Sequence[str],
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        schedule: optim.Curve,
        *,
        label_smoothing: float = 0.1,
        class_weights: Tensor | None = None,
        regularizer: Regularizer | None = None,
        multi: bool = False,
    ) -> None:
        super().__init__()
        if plan.stages != tuple(backbone.stage_names):
            raise ValueError(f"the plan is for stages {plan.stages}, the backbone has {backbone.stage_names}")
        self.backbone, self.head, self.plan, self.regularizer = backbone, head, plan, regularizer
        self.classes, self.make_optimizer, self.schedule = tuple(classes), optimizer, schedule
        self.entry = 0  # the stage at which batches enter: higher where others compute what lies below
        self._folding = Folding(backbone.net)
        self._optimizer: Optimizer | None = None
        self._owners: list[tuple[str, list[tuple[str, nn.Parameter]], list[nn.Module]]] | None = None
        self.label_smoothing, self._loss_sum = label_smoothing, torch.zeros(())
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.multi = multi
        scores = metrics.multilabel(classes) if multi else metrics.classification(classes)
        self.val_scores, self.test_scores = scores.clone(prefix="val/"), scores.clone(prefix="test/")
        self.val_confusion, self.test_confusion = (None if multi else metrics.confusion(classes) for _ in "vt")

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W), tokens (N, T, 3), or what enters at stage `entry`, to (N, C) logits."""
        with self._folding.active():
            logits: Tensor = self.head(self.backbone(self._cast(x), self.entry))
        return logits

    def _cast(self, x: Tensor) -> Tensor:
        """Images and activations in the parameters' precision (bf16-true); tokens as they are."""
        return x.to(self.dtype) if x.is_floating_point() else x

    def owners(self) -> list[tuple[str, list[tuple[str, nn.Parameter]], list[nn.Module]]]:
        """(name, named parameters, modules) of every stage in order, then of the heads; looked up once."""
        if self._owners is None:
            net = self.backbone
            stages = [(s.name, list(net.stage_parameters(s)), list(net.stage_modules(s))) for s in net.stages]
            heads = {HEAD: self.head, SOURCE_HEAD: self.regularizer.learns if self.regularizer else None}
            more = [(n, list(m.named_parameters()), list(m.modules())) for n, m in heads.items() if m is not None]
            self._owners = [*stages, *more]
        return self._owners

    def learners(self, name: str) -> list[tuple[str, nn.Parameter]]:
        """The named parameters of a stage or a head that learn when it does: of a stage, those of the plan's part."""
        _, named, modules = next(o for o in self.owners() if o[0] == name)
        if self.plan.part == "all" or name not in self.plan.stages:
            return named
        if self.plan.part == "bias":
            return [(n, p) for n, p in named if n.endswith("bias")]
        if self.plan.part == "lora":
            return [(n, p) for n, p in named if ".lora_" in n]
        norms = {p for m in modules if isinstance(m, NORM_LAYERS) for p in m.parameters(recurse=False)}
        return [(n, p) for n, p in named if p in norms]

    def sizes(self) -> tuple[int, int]:
        """Number of parameters, and of those that learn in some phase."""
        names = [name for name, _, _ in self.owners() if name != SOURCE_HEAD]
        total = sum(p.numel() for name, named, _ in self.owners() for _, p in named if name != SOURCE_HEAD)
        learning = [p.numel() for n in names if self.plan.learns_ever(n) for _, p in self.learners(n)]
        return total, sum(learning)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy with smoothing and class weights, and the regularizer's term.

        Labels are (N,) or, after mixing, (N, C).
        """
        images, labels = batch
        again = getattr(self._optimizer, "uphill", False)  # SAM's second look at the batch
        outputs: list[Tensor] = []
        if self.regularizer:
            self.backbone.watch = lambda i, x: outputs.append(x)
        try:
            with statistics_kept(self) if again else nullcontext():
                logits = self(images)
        finally:
            self.backbone.watch = None
        loss = self._loss(logits, labels, weight=self.class_weights, label_smoothing=self.label_smoothing)
        if self.regularizer:
            seen = Seen(self.entry, self._cast(images), outputs, labels)
            loss = loss + self.regularizer(seen, self.backbone, self.head)
        if not again:
            self._record(loss.detach(), batch_idx)
        return loss

    def _loss(self, logits: Tensor, labels: Tensor, **options: Any) -> Tensor:
        """Cross-entropy, or that of each class by itself, which has neither weights nor smoothing."""
        if self.multi:
            return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return F.cross_entropy(logits, labels, **options)

    def _record(self, loss: Tensor, batch_idx: int) -> None:
        """The loss now and then, and its mean over the epoch: no step waits for the device or for other ranks."""
        self._loss_sum = loss if batch_idx == 0 else self._loss_sum + loss
        if (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/loss_step", loss, on_step=True, on_epoch=False)
        if self.trainer.is_last_batch:
            mean = self._loss_sum / (batch_idx + 1)
            self.log("train/loss_epoch", mean, on_step=False, on_epoch=True, sync_dist=True)

    def meters(self, split: str) -> tuple[MetricCollection, MulticlassConfusionMatrix | None]:
        """Scores and confusion matrix (of one class each) of "val" or "test" since the last report."""
        if split == "val":
            return self.val_scores, self.val_confusion
        return self.test_scores, self.test_confusion

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count one batch."""
        self._score("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count one batch."""
        self._score("test", batch)

    def _score(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits = self(images).float()
        told = (logits.sigmoid(), labels.int()) if self.multi else (logits, labels)
        for meter in self.meters(split):
            if meter is not None:
                meter.update(*told)
        loss = self._loss(logits, labels)
        self.log(f"{split}/loss", loss, batch_size=len(images), sync_dist=True, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        """Report the validation split."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Report the test split."""
        self._report("test")

    def _report(self, split: str) -> None:
        scores, confusion = self.meters(split)
        counts = [1] * len(self.classes) if confusion is None else confusion.compute().sum(1).tolist()
        present = dict(zip(self.classes, counts, strict=True))
        values = {k: v for k, v in scores.compute().items() if present.get(k.partition("/recall/")[2], 1)}
        self.log_dict(values, sync_dist=True)  # equal on all ranks already; Lightning asks to be told
        for meter in self.meters(split):
            if meter is not None:
                meter.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """All groups that ever learn, from step 0; rates are a pure function of the step."""
        _ = self.trainer.estimated_stepping_batches  # makes the trainer count the batches of an epoch
        learners = [(name, self.learners(name)) for name, _, _ in self.owners() if self.plan.learns_ever(name)]
        optimizer = self.make_optimizer(optim.param_groups(learners))
        self._warn_if_rough(optimizer)
        self._optimizer = optimizer
        scheduler = optim.scheduler(optimizer, self.multiplier)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

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
        limit = optim.gentle_rate(optimizer)
        if limit is None or not self.backbone.gentle or self.plan.part != "all":  # few of them move, or new ones
            return
        speeds = [p.speeds[s] for p in self.plan.phases for s in self.plan.stages]
        rate = max(speeds, default=0.0) * max(g["lr"] for g in optimizer.param_groups)
        if rate > limit * 1.001:  # 1e-3 * 0.1 is a little above 1e-4
            log.warning(
                f"pretrained weights will learn at a rate of {rate:.1e}, above {limit:.0e} for "
                f"{type(optimizer).__name__}: expect catastrophic forgetting; lower optimizer.lr or strategy.speed"
            )


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """While inside, BatchNorm in training mode normalises by the batch and leaves its statistics as they are."""
    norms = [(m, m.momentum) for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    for norm, _ in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum


def learner(module: L.LightningModule) -> TransferModule:
    """The module that a callback is handed, as what it is here."""
    assert isinstance(module, TransferModule)
    return module
