"""How much of what the network knew is still there, measured on validation images: no source data needed."""

from __future__ import annotations

import copy
import logging
import math
from collections import defaultdict
from contextlib import ExitStack
from statistics import mean
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from tl_lightning import checks
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.norms import with_statistics
from tl_lightning.batch import Batch, Inputs, first_tensor, map_tensors
from tl_lightning.fully_sharded import whole
from tl_lightning.learner import Learner, learner
from tl_lightning.transferability import similarity
from tl_lightning.transferability.drift import symmetric_kl

log = logging.getLogger(__name__)


class Forgetting(Callback):
    """Compares the network with what it was before fine-tuning, at every validation, on up to `images` images.

    Logged: by stage `forgetting/cka` (similarity of features), `forgetting/shift` (their relative change),
    `forgetting/distance` (of weights) and `forgetting/drift` (of BatchNorm's statistics); where the weights came with
    a classifier, how often it still says the same (`forgetting/agreement`), and by how much it differs
    (`forgetting/kl`). Features are taken from the validation pass itself; the original runs once. A warning is given,
    once, where a stage before the last has a similarity below `floor`: the last is there to change, those below it at
    gentle rates keep 0.95 and more, and at ten times these rates 0.4 to 0.6 (docs/forgetting.md). Built before anything
    moves; where nothing will, or the weights know no photographs, it does nothing.
    """

    reported = "forgetting/"  # how the names of its scores begin

    def __init__(self, module: Learner, *, images: int = 256, floor: float = 0.7) -> None:
        checks.whole("callbacks.forgetting.images", images, 1)
        self.images, self.floor = images, floor
        self.source: Backbone | None = None
        if module.backbone.small_rates and module.backbone.source_known and module.plan.moves:
            self.source = copy.deepcopy(module.backbone).eval().requires_grad_(False)
        self._before: dict[int, list[Tensor]] = defaultdict(list)
        self._now: dict[int, list[Tensor]] = {}
        self._passed, self._step = 0, 1
        self._looking = ExitStack()
        self._complete = self._warned = False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A new pass over the validation images."""
        self._now, self._passed = defaultdict(list), 0

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Look at the stages' outputs for some of the batch's samples, evenly over the split."""
        if self.source is None or trainer.sanity_checking:
            return
        module = learner(pl_module)
        if batch_idx == 0:
            self._step = math.ceil(len(batch) * int(trainer.num_val_batches[0]) / self.images)
        rows = [i for i in range(len(batch)) if (self._passed + i) % self._step == 0]
        self._passed += len(batch)
        if rows:

            def look(i: int, output: Tensor) -> None:
                self._now[i].append(module.backbone.pooled(i, output[rows]).detach().float())

            self._looking.enter_context(module.backbone.observing(look))
            if not self._complete:
                some = map_tensors(lambda x: x[rows].float() if x.is_floating_point() else x[rows], batch.inputs)
                self._run_source(self.source, some, module.input_stage)

    @torch.no_grad()
    def _run_source(self, source: Backbone, entered: Inputs, start: int) -> None:
        """Keep the outputs (N, C), pooled, of the original for what entered stage `start`."""
        source.to(first_tensor(entered).device)
        for i, output in enumerate(source.outputs(entered, start), start):
            last = i == len(source.stages) - 1
            self._before[i].append((output if last else source.pool(output)).float())

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look no more."""
        self._looking.close()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log all, and warn."""
        if self.source is None or not self._now:
            return
        self._complete = True
        values = self._compare(self.source, learner(pl_module))
        pl_module.log_dict({f"forgetting/{k}": v for k, v in values.items()}, sync_dist=True)
        early = {stage.name: values.get(f"cka/{stage.name}", 1.0) for stage in self.source.stages[:-1]}
        worst = min(early, key=lambda name: early[name], default="")
        if worst and early[worst] < self.floor and not self._warned and trainer.is_global_zero:
            self._warned = True
            holding = "l2_sp" if self.source.source_head is None else "lwf"
            log.warning(
                f"features are being destroyed: those of {worst} have a similarity (CKA) of {early[worst]:.2f} with "
                f"what they were; lower optimizer.lr or strategy.speed, or hold on to them with regularizer={holding}"
            )

    @torch.no_grad()
    def _compare(self, source: Backbone, module: Learner) -> dict[str, float]:
        values: dict[str, float] = {}
        before, now = ({i: torch.cat(rows) for i, rows in kept.items()} for kept in (self._before, self._now))
        for i, (old, new) in enumerate(zip(source.stages, module.backbone.stages, strict=True)):
            if i in now:
                values[f"cka/{old.name}"] = similarity.linear_cka(before[i], now[i])
                values[f"shift/{old.name}"] = similarity.shift(before[i], now[i])
            start = [p.cpu() for _, p in source.stage_parameters(old)]
            values[f"distance/{old.name}"] = similarity.distance(
                start, [whole(p).cpu() for _, p in module.backbone.stage_parameters(new)]
            )
            pairs = zip(with_statistics(source.stage_modules(old)),
                        with_statistics(module.backbone.stage_modules(new)), strict=True)  # fmt: skip
            if moved := [symmetric_kl(*_statistics(b), *_statistics(a)) for a, b in pairs]:
                values[f"drift/{old.name}"] = mean(moved)
        last = len(source.stages) - 1
        if source.source_head is not None:
            head: nn.Module = source.source_head.to(now[last].device)
            head.eval()
            logits = head(before[last]), head(now[last])
            values["agreement"], values["kl"] = similarity.agreement(*logits), similarity.divergence(*logits)
        return values


def _statistics(norm: Any) -> tuple[Any, Any]:
    """Mean and variance (C,) that a BatchNorm keeps."""
    return norm.running_mean.cpu().numpy(), norm.running_var.cpu().numpy()
