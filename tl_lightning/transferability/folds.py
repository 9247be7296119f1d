"""Folds of few samples, each with its share of every class."""

from __future__ import annotations

import numpy as np

FEW = 1000  # samples, up to which leaving one out is misled: it tips the intercept against the sample's own class


def stratified_folds(labels: np.ndarray, most: int) -> np.ndarray | None:
    """(N,): the fold of every sample of classes (N,), of `most` folds or as many as the smallest class can fill.

    None where samples are many, or a class has one only: then each is left out by itself. Leaving one sample of
    balanced classes out moves the class means against it, so where the signal is weak a constant answer seems best;
    folds that keep the balance have no such bias.
    """
    counts = np.bincount(labels)
    number = min(most, int(counts[counts > 0].min()))
    if len(labels) > FEW or number < 2:
        return None
    random = np.random.default_rng(0)
    folds = np.zeros(len(labels), np.int64)
    for label in np.flatnonzero(counts):
        places = random.permutation(np.flatnonzero(labels == label))
        folds[places] = np.arange(len(places)) % number
    return folds


def random_folds(samples: int, most: int) -> np.ndarray | None:
    """(N,): the fold of every sample where there are no classes to stratify by; None where samples are many."""
    if samples > FEW or samples < 2 * most:
        return None
    return np.random.default_rng(0).permutation(samples) % most
