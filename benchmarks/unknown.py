"""How well a run tells its own kind of samples from others: distance to neighbours, softmax and Mahalanobis.

    python benchmarks/unknown.py RUN OTHER [OTHER ...]

AUROC of telling the run's validation samples from up to 500 of each OTHER (a folder, or a file of texts). Neighbours:
what `unknown=true` takes. Softmax: 1 - the largest probability (Hendrycks and Gimpel, arXiv:1610.02136). Mahalanobis:
the distance to the nearest class mean under one shrunk covariance (Lee et al., arXiv:1807.03888). The last columns: how
many of the validation samples and of the others `unknown=true` calls unknown.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys
from pathlib import Path

import numpy as np

import tl_lightning as tl  # first: it lets torchvision be imported

from sklearn.covariance import LedoitWolf  # isort: skip
from sklearn.metrics import roc_auc_score

from tl_lightning.jobs.feature_index import FeatureIndex, feature_index
from tl_lightning.jobs.predict import answered, sources

MOST = 500


class Mahalanobis:
    """The squared distance of features (N, D) to the nearest mean of the training features' classes."""

    def __init__(self, index: FeatureIndex) -> None:
        classes = np.unique(index.targets)
        self.means = np.stack([index.features[index.targets == k].mean(0) for k in classes])
        centred = index.features - self.means[np.searchsorted(classes, index.targets)]
        self.precision = LedoitWolf(assume_centered=True).fit(centred).precision_

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(N,) of (N, D)."""
        apart = features[:, None] - self.means[None]
        return np.einsum("nkd,de,nke->nk", apart, self.precision, apart).min(1)


def passed(run: tl.Run, samples: list[object]) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) and 1 - the largest probability (N,)."""
    found = [a for a in answered(run.model, samples, "auto") if a.features is not None]
    features = np.concatenate([a.features for a in found])
    return features, 1 - np.concatenate([a.predictions for a in found]).max(1)


def main() -> None:
    """Print the table."""
    run = tl.load(sys.argv[1])
    run.evaluate()
    run = tl.load(sys.argv[1])  # calibrated
    judge = run._judge()
    index = feature_index(run.folder, run.model.backbone.feature_dim, run._judge)
    neighbours, mahalanobis = index.neighbours(), Mahalanobis(index)
    known, unsure = passed(run, [sample for sample, _ in judge.data.samples.split("val")])
    own = neighbours.distances(known), unsure, mahalanobis(known)
    called = (own[0] > neighbours.threshold).mean()
    print("| others | samples | neighbours | softmax | Mahalanobis | val called unknown | others called unknown |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in sys.argv[2:]:
        named = sources(run.model, Path(name))
        picked = [named[i][1] for i in np.linspace(0, len(named) - 1, min(MOST, len(named))).astype(int)]
        features, unsure = passed(run, picked)
        theirs = neighbours.distances(features), unsure, mahalanobis(features)
        areas = [roc_auc_score([0] * len(a) + [1] * len(b), [*a, *b]) for a, b in zip(own, theirs, strict=True)]
        cells = " | ".join(f"{area:.3f}" for area in areas)
        found = (theirs[0] > neighbours.threshold).mean()
        print(f"| {Path(name).name} | {len(features)} | {cells} | {called:.3f} | {found:.3f} |", flush=True)


if __name__ == "__main__":
    main()
