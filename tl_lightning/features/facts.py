"""The facts about a backbone and a data set, in one pass over the training images."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from tl_lightning.backbones.backbone import Backbone, evaluating
from tl_lightning.backbones.norms import with_statistics
from tl_lightning.backbones.taps import read_all_stages
from tl_lightning.batch import map_tensors
from tl_lightning.features.feature_source import FeatureSource
from tl_lightning.features.frozen import Options, kept_rows
from tl_lightning.features.views import View
from tl_lightning.transferability import evidence
from tl_lightning.transferability.drift import symmetric_kl
from tl_lightning.transferability.evidence import ALL, Evidence

log = logging.getLogger(__name__)

_LOOKED_AT = 16  # images whose activations are compared with BatchNorm's statistics


def measure(backbone: Backbone, data: FeatureSource, options: Options, device: torch.device) -> Evidence:
    """All facts, of the training images alone, in the evaluation geometry.

    The pooled outputs of all stages are cached as features are. Raises NoRoom if they cannot be kept at all, UserError
    for a task without classes.
    """
    labels, classes = data.task.class_targets(data.samples.targets("train")), data.task.outputs
    view = View(data.eval_transform)
    wanted, boundary = [("train", view)], len(backbone.stages)
    every_stage, reason = read_all_stages(backbone, scaled=False), "the outputs of all stages, to compare them"
    rows = kept_rows(every_stage, boundary, wanted, data, options, device, reason)[0]
    by_stage = dict(zip(backbone.stage_names, np.split(rows, np.cumsum(backbone.widths())[:-1], 1), strict=True))
    taps = [evidence.tap(name, part, labels) for name, part in by_stage.items()]
    taps.append(evidence.tap(ALL, evidence.together(by_stage), labels))
    likeness = None
    if backbone.source_head is None:
        log.info("facts     the weights have no classifier: how alike source and target are is told by features alone")
    elif labels.ndim == 1:
        probabilities = source_probabilities(backbone, by_stage[backbone.stage_names[-1]])
        likeness = evidence.likeness(probabilities, labels, classes, backbone.source_classes)
    counts = data.samples.counts("train")
    return Evidence(
        len(classes), len(labels), median(counts), tuple(taps), drift(backbone, data, view, device), likeness
    )


@torch.no_grad()
def source_probabilities(backbone: Backbone, features: np.ndarray) -> np.ndarray:
    """What the source's classifier says of features (N, feature_dim): probabilities (N, source classes)."""
    assert backbone.source_head is not None
    head: torch.nn.Module = backbone.source_head.cpu()
    found: np.ndarray = head.eval()(torch.from_numpy(np.asarray(features, np.float32))).softmax(1).numpy()
    return found


@torch.no_grad()
def drift(backbone: Backbone, data: FeatureSource, view: View, device: torch.device) -> dict[str, float]:
    """By stage, how far a few training images' activations are from the statistics that its BatchNorm layers keep.

    The mean over layers of the symmetric divergence (see transferability/drift.py); stages without are left out.
    """
    found: dict[str, list[float]] = defaultdict(list)

    def look(stage: str) -> Callable[[torch.nn.Module, tuple[Tensor]], None]:
        def hook(norm: torch.nn.Module, inputs: tuple[Tensor]) -> None:
            var, mean = torch.var_mean(inputs[0].double(), (0, *range(2, inputs[0].ndim)), correction=0)
            kept = [getattr(norm, name).double().cpu().numpy() for name in ("running_mean", "running_var")]
            found[stage].append(symmetric_kl(mean.cpu().numpy(), var.cpu().numpy(), *kept))

        return hook

    hooks: list[RemovableHandle] = []
    for stage in backbone.stages:
        for module in with_statistics(backbone.stage_modules(stage)):
            hooks.append(module.register_forward_pre_hook(look(stage.name)))
    try:
        if hooks:
            dataset = data.dataset("train", view.transform)
            picked = np.linspace(0, len(dataset) - 1, min(len(dataset), _LOOKED_AT)).astype(int)  # sorted by class
            samples = data.stack([view(dataset.prepared(int(i)), int(i)) for i in picked])
            with evaluating(backbone.to(device)):
                backbone(data.input.normalise(map_tensors(lambda x: x.to(device), samples)))
    finally:
        for handle in hooks:
            handle.remove()
    return {stage: float(np.mean(values)) for stage, values in found.items()}
