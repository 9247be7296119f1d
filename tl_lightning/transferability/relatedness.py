"""What the source's own classifier says of the target's images: probabilities (N, Z) of its Z classes, labels (N,)."""

from __future__ import annotations

import numpy as np


def leep(source: np.ndarray, labels: np.ndarray) -> float:
    """Log expected empirical prediction (arXiv:2002.12462): mean log P(label) by way of the source's classes.

    For probabilities (N, Z) and labels (N,). At most 0; the higher, the more of the target's classes the source's tell.
    """
    theta = np.asarray(source, np.float64)
    joint = np.stack([theta[labels == y].sum(0) for y in range(int(labels.max()) + 1)]) / len(theta)
    conditional = joint / np.maximum(joint.sum(0, keepdims=True), 1e-300)
    expected = (conditional[labels] * theta).sum(1)
    return float(np.log(np.maximum(expected, 1e-300)).mean())


def nce(source: np.ndarray, labels: np.ndarray) -> float:
    """-H(label | likeliest source class) of probabilities (N, Z) and labels (N,), in nats (arXiv:1908.08142)."""
    z = np.asarray(source).argmax(1)
    counts = np.zeros((int(labels.max()) + 1, source.shape[1]))
    np.add.at(counts, (labels, z), 1)
    joint = counts / counts.sum()
    marginal = np.broadcast_to(joint.sum(0), joint.shape)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / marginal[seen])).sum())


def entropy(source: np.ndarray) -> float:
    """How undecided probabilities (N, Z) are, as a share of what they could be: 0 certain, 1 all classes alike."""
    p = np.asarray(source, np.float64)
    return float(-(p * np.log(np.maximum(p, 1e-300))).sum(1).mean() / np.log(p.shape[1]))


def relationship(source: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(C, Z): the mean of the source's probabilities over the images of each class; without images all alike."""
    found = [source[labels == y] for y in range(classes)]
    alike = np.full(source.shape[1], 1 / source.shape[1])
    return np.stack([np.asarray(rows, np.float64).mean(0) if len(rows) else alike for rows in found])
