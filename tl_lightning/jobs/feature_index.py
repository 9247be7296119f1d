"""What a run has seen, as features that are kept: to tell what it does not know, and to add classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tl_lightning.errors import UserError
from tl_lightning.evaluation.neighbours import K, Neighbours
from tl_lightning.files import atomically
from tl_lightning.jobs.judge import Judge
from tl_lightning.jobs.predict import Predictor
from tl_lightning.runs.folder import RunFolder

_MOST = 5000  # samples of a split


@dataclass(frozen=True)
class FeatureIndex:
    """Features (M, D) and targets (M,) or (M, C) of up to 5,000 samples of the training and the validation split."""

    features: np.ndarray
    targets: np.ndarray
    val_features: np.ndarray
    val_targets: np.ndarray

    def neighbours(self) -> Neighbours:
        """Of the training samples."""
        return Neighbours.of(self.features)

    def write(self, path: Path) -> None:
        """The arrays by name, features in half precision."""
        arrays = {name: torch.from_numpy(np.asarray(value)) for name, value in vars(self).items()}
        tensors = {name: value.half() if "features" in name else value for name, value in arrays.items()}
        atomically(path, lambda draft: save_file({k: v.contiguous() for k, v in tensors.items()}, draft))

    @classmethod
    def read(cls, path: Path) -> FeatureIndex:
        """What `write` left. Raises UserError for a file that is damaged."""
        try:
            with safe_open(path, "np") as file:
                arrays = {name: file.get_tensor(name) for name in cls.__dataclass_fields__}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}): remove it, and it is made again") from error
        return cls(**{k: v.astype(np.float32) if "features" in k else v for k, v in arrays.items()})


def feature_index(folder: RunFolder, width: int, judge: Callable[[], Judge]) -> FeatureIndex:
    """The index of a run; if there is none yet it is made of its samples, which are not needed again.

    `width` of its features. Raises UserError for too few samples, and for a file that is damaged.
    """
    path = folder.features_file
    if not path.is_file():
        of_run = judge()
        if (number := of_run.data.samples.size("train")) <= K:
            raise UserError(f"{number} training samples are too few to say what is near them: it takes more than {K}")
        FeatureIndex(*_features(of_run, "train"), *_features(of_run, "val")).write(path)
    found = FeatureIndex.read(path)
    for features, targets in ((found.features, found.targets), (found.val_features, found.val_targets)):
        if features.ndim != 2 or features.shape[1] != width or len(features) != len(targets) or not len(features):
            raise UserError(f"{path} is damaged (features {features.shape}): remove it, and it is made again")
    return found


def _features(judge: Judge, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (M, D) and targets of samples drawn from a split."""
    picked = np.random.default_rng(0).permutation(judge.data.samples.size(split))[:_MOST]
    predictor = Predictor(judge.model, "auto", len(picked))
    try:
        found = [predictor(inputs)[0] for inputs in judge.raw_inputs(split, picked.tolist(), predictor.at_once)]
    finally:
        predictor.close()
    return torch.cat(found).numpy(), judge.data.samples.targets(split)[picked]
