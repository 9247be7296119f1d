"""Scores of features (N, D) for classes (N,), or for several (N, C): how well they would do, without training."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

_CHUNK = 1024  # rows whose neighbours are looked for at once


def indicators(labels: np.ndarray) -> np.ndarray:
    """(N, C) of 0 and 1: of classes (N,) one-hot, of several (N, C) as they are."""
    known = np.asarray(labels)
    found: np.ndarray = np.eye(int(known.max()) + 1)[known] if known.ndim == 1 else known.astype(np.float64)
    return found


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Log of the maximum evidence of a linear model per image, averaged over classes (arXiv:2102.11005).

    For features (N, D), labels (N,) or (N, C). The higher the better. The fixed point is that of the authors' code: at
    most 11 rounds, until alpha / beta changes by less than a thousandth.
    """
    f = np.asarray(features, np.float64)
    n, d = f.shape
    u, s, _ = np.linalg.svd(f, full_matrices=False)
    sigma = s**2
    evidences = []
    for y in indicators(labels).T:
        x2 = (u.T @ y) ** 2
        beyond = max(float(y @ y - x2.sum()), 0.0)  # what no combination of features reaches
        alpha = beta = t = 1.0
        for _ in range(11):
            gamma = (sigma / (sigma + t)).sum()
            m2 = (sigma * x2 / (t + sigma) ** 2).sum()
            r2 = (x2 / (1 + sigma / t) ** 2).sum() + beyond
            alpha, beta, last = gamma / (m2 + 1e-5), (n - gamma) / (r2 + 1e-5), t
            t = alpha / beta
            if abs(t - last) / last <= 1e-3:
                break
        determinant = np.log(alpha + beta * sigma).sum() + max(d - len(sigma), 0) * np.log(alpha)
        evidence = d / 2 * np.log(alpha) + n / 2 * np.log(beta) - determinant / 2
        evidence += -beta / 2 * r2 - alpha / 2 * m2 - n / 2 * np.log(2 * np.pi)
        evidences.append(evidence / n)
    return float(np.mean(evidences))


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Variance between classes against all variance, tr(cov(f)^-1 cov(E[f|y])): at most classes - 1, 0 if unrelated.

    For features (N, D), labels (N,), or (N, C), of which E[f|y] is the linear regression. With the covariance shrunk as
    Ledoit and Wolf do (arXiv:2110.06893), without which it is wrong for few images.
    """
    from sklearn.covariance import ledoit_wolf  # a second to import, and not needed to train

    f = np.asarray(features, np.float64)
    f = f - f.mean(0)
    covariance, shrinkage = ledoit_wolf(f)
    y = indicators(labels)
    basis, spread, _ = np.linalg.svd(y - y.mean(0), full_matrices=False)
    means = basis[:, spread > 1e-9 * spread.max()].T @ f / np.sqrt(len(f) - 1)
    covariance[np.diag_indices_from(covariance)] += 1e-12 * max(np.trace(covariance), 1e-30)
    solved = cho_solve(cho_factor(covariance), means.T)
    return float((1 - shrinkage) * (means.T * solved).sum())


def nearest_neighbour(features: np.ndarray, labels: np.ndarray) -> float:
    """How often the most similar other of features (N, D), by cosine, has the same of labels (N,).

    Of several classes (N, C): how far both agree, by Dice's coefficient.
    """
    f = np.asarray(features, np.float32)
    f = f / np.maximum(np.linalg.norm(f, axis=1, keepdims=True), 1e-12)
    nearest: list[int] = []
    for start in range(0, len(f), _CHUNK):
        similarity = f[start : start + _CHUNK] @ f.T
        own = np.arange(len(similarity))
        similarity[own, start + own] = -np.inf
        nearest += similarity.argmax(1).tolist()
    known = np.asarray(labels)
    if known.ndim == 1:
        return float((known[nearest] == known).mean())
    both, either = (known * known[nearest]).sum(1), known.sum(1) + known[nearest].sum(1)
    return float(np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0).mean())
