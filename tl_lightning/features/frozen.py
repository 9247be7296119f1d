"""What of a run is computed once: decided from the plan, said in one line, done before the first epoch."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import lightning as L
import numpy as np
import torch

from tl_lightning import checks
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.data.datamodule import LabelledData
from tl_lightning.errors import UserError
from tl_lightning.features.engine import CHOICES, Prefix
from tl_lightning.features.estimate import PassEstimate, estimate_pass
from tl_lightning.features.extract import Extractor
from tl_lightning.features.feature_source import FeatureSource
from tl_lightning.features.rows import FeatureDataModule
from tl_lightning.features.views import View, choose
from tl_lightning.store import NoRoom, Store, human
from tl_lightning.strategies.plan import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """`cache`: auto, off or a number of views. `engine`: of the frozen stages. `dtype`: of the rows that are kept.

    `show`: a progress bar.
    """

    cache: str | int = "auto"
    engine: str = "auto"
    dtype: str = "float16"
    show: bool = False

    def __post_init__(self) -> None:
        if str(self.cache) == "False":  # which is how YAML reads "off"
            object.__setattr__(self, "cache", "off")
        cache = self.cache
        if cache not in ("auto", "off") and not (isinstance(cache, int) and not isinstance(cache, bool) and cache > 0):
            raise UserError(f"cache={cache} is unknown: use auto, off, or a number of views of each image")
        checks.one_of("engine", self.engine, CHOICES)
        checks.one_of("cache_dtype", self.dtype, ("float16", "float32"))

    @property
    def half(self) -> bool:
        """Whether half precision will do for what is computed, too."""
        return self.dtype == "float16"


class Frozen:
    """The stages below a plan's boundary: their cached output, or they themselves on a faster engine."""

    def __init__(self, backbone: Backbone, plan: Plan, data: LabelledData, options: Options) -> None:
        self.backbone, self.plan, self.data, self.options = backbone, plan, data, options
        self.choice = choose(options.cache, plan, data)
        self._features: np.ndarray | None = None

    def loaders(self, device: torch.device, epochs: int) -> tuple[L.LightningDataModule, int]:
        """What to train and evaluate on, and the stage at which its batches enter."""
        boundary, choice, options = self.plan.boundary, self.choice, self.options
        if choice.views:
            parts = self._kept()
            try:
                rows = kept_rows(self.backbone, boundary, parts, self.data, options, device, choice.reason)
            except NoRoom as why:
                log.warning(f"cache     off, {self.data.samples.noun} are drawn anew in every epoch: {why}")
            else:
                by_split: dict[str, list[np.ndarray]] = {split: [] for split, _ in parts}
                for (split, _), array in zip(parts, rows, strict=True):
                    by_split[split].append(array)
                if not self.plan.phases:  # one view, in the evaluation geometry
                    self._features = by_split["train"][0]
                return FeatureDataModule(self.data, by_split, choice), boundary
        else:
            log.info(f"cache     off: {choice.reason}")
        if boundary:
            images = epochs * self.data.samples.size("train")
            own = copy.deepcopy(self.backbone)  # the learner's may be converted to another precision
            self.data.prefix = Prefix(own, boundary, options.engine, device, images, options.half)
        return self.data, boundary

    def features(self, device: torch.device, backbone: Backbone) -> np.ndarray:
        """(N, feature_dim): the training images' features in the evaluation geometry, cached where it can be.

        Raises UserError where there is no room for them.
        """
        if self._features is not None:
            return self._features
        boundary = len(self.plan.stages)
        try:
            return kept_rows(backbone, boundary, self._read(), self.data, self.options, device, "to solve the head")[0]
        except NoRoom as why:
            raise UserError(f"to solve the head its features must be kept: {why}") from why

    def estimates(self, device: torch.device, limit: float) -> list[PassEstimate]:
        """What the passes of this run will take, that of `loaders` last; each is tried for `limit` seconds."""
        passes = []
        if self.plan.solve and self.plan.phases:
            passes.append((len(self.plan.stages), self._read()))
        if self.choice.views:
            passes.append((self.plan.boundary, self._kept()))
        store = None if self.options.cache == "off" else Store("features")
        found = []
        unseen = replace(self.options, show=False)
        for boundary, wanted in passes:
            extractor = _extractor(self.backbone, boundary, wanted, self.data, unseen, device, store)
            found.append(estimate_pass(extractor, wanted, limit))
        return found

    def _kept(self) -> list[tuple[str, View]]:
        """What the cache holds of every split."""
        whole = View(self.data.eval_transform)
        parts = [("train", view) for view in self.choice.views]
        return parts + [(split, whole) for split in ("val", "test") if self.data.samples.size(split)]

    def _read(self) -> list[tuple[str, View]]:
        """What a head is solved on."""
        return [("train", View(self.data.eval_transform))]


def kept_rows(
    backbone: Backbone,
    boundary: int,
    wanted: Sequence[tuple[str, View]],
    data: FeatureSource,
    options: Options,
    device: torch.device,
    reason: str,
) -> list[np.ndarray]:
    """What enters stage `boundary`, (N, ...) for every (split, view): from the cache, else computed and kept.

    In memory, with a warning, where the disk cannot hold it. Raises NoRoom if neither can.
    """
    images = sum(data.samples.size(split) for split, _ in wanted)

    def rows(store: Store | None) -> list[np.ndarray]:
        extractor = _extractor(backbone, boundary, wanted, data, options, device, store)
        found = extractor.rows(wanted)
        where = "in memory" if store is None else f"in {store.root}"
        pace = f"{extractor.computed / max(extractor.seconds, 1e-9):.0f} {data.samples.noun}/s, {extractor.prefix.name}"
        how = f"{extractor.computed} computed at {pace}" if extractor.computed else "all from an earlier run"
        log.info(f"cache     {reason}: {images} rows, {human(extractor.kept)} {where}; {how}")
        return found

    if options.cache == "off":
        return rows(None)
    try:
        return rows(Store("features"))
    except NoRoom as disk:
        try:
            found = rows(None)
        except NoRoom as memory:
            raise NoRoom(f"{disk}; {memory}") from memory
        log.warning(f"cache     for this run alone: {disk}")
        return found


def _extractor(
    backbone: Backbone,
    boundary: int,
    wanted: Sequence[tuple[str, View]],
    data: FeatureSource,
    options: Options,
    device: torch.device,
    store: Store | None,
) -> Extractor:
    images = sum(data.samples.size(split) for split, _ in wanted)
    prefix = Prefix(backbone, boundary, options.engine, device, images, options.half)
    return Extractor(prefix, data, store, options.dtype, options.show)
