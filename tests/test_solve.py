"""The exact head, against scikit-learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tl_lightning import heads
from tl_lightning.errors import UserError
from tl_lightning.heads import solve
from tl_lightning.heads.logistic import CURVATURE
from tl_lightning.transferability import ridge


def blobs(n=60, d=12, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = rng.normal(size=(classes, d))
    return (centres[labels] + 1.5 * rng.normal(size=(n, d))).astype(np.float32), labels


@pytest.mark.parametrize("d", [12, 150])
@pytest.mark.parametrize("weights", [None, [3.0, 0.5, 1.0]])
def test_the_head_is_scikit_learns_logistic_regression(d, weights):
    rows, labels = blobs(d=d)
    chosen = None if weights is None else torch.tensor(weights)
    solution = solve.solve_classes(rows, labels, 3, chosen)
    w = np.ones(len(rows)) if weights is None else np.array(weights)[labels]
    unit = StandardScaler().fit(rows.astype(np.float64), sample_weight=w)
    scaled = (rows - unit.mean_) / np.sqrt(unit.scale_)
    reference = LogisticRegression(C=1 / (CURVATURE * solution.penalty), tol=1e-8, max_iter=5000)
    reference.fit(scaled, labels, sample_weight=w)
    expected = reference.predict_proba(scaled)
    found = F.softmax(torch.from_numpy(rows) @ solution.weight.T + solution.bias, 1)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


def test_constant_and_huge_features_do_no_harm():
    rows, labels = blobs()
    odd = np.concatenate([rows, np.full((60, 1), 7.0), 1e2 * rows[:, :1]], 1).astype(np.float32)
    solution = solve.solve_classes(odd, labels, 3)
    assert torch.isfinite(solution.weight).all()
    assert (solution.weight[:, 12] == 0).all()
    plain = solve.solve_classes(rows, labels, 3)
    guesses = [(torch.tensor(x) @ s.weight.T + s.bias).argmax(1) for x, s in ((odd, solution), (rows, plain))]
    assert (guesses[0] == guesses[1]).double().mean() > 0.9


def test_chunks_and_half_precision_change_nothing(monkeypatch):
    rows, labels = blobs()
    whole = solve.solve_classes(rows, labels, 3)
    monkeypatch.setattr(ridge, "_CHUNK", 7)
    torch.testing.assert_close(solve.solve_classes(rows, labels, 3).weight, whole.weight, rtol=1e-3, atol=1e-4)
    halves = solve.solve_classes(rows.astype(np.float16), labels, 3)
    torch.testing.assert_close(halves.weight, whole.weight, rtol=0.05, atol=5e-3)


def test_only_a_linear_head_can_be_solved():
    rows, labels = blobs()
    head = heads.linear(12, torch.zeros(3), dropout=0.5)
    solution = solve.solve_classes(rows, labels, 3)
    solve.install(head, solution)
    expected = torch.from_numpy(rows) @ solution.weight.T + solution.bias
    torch.testing.assert_close(head.eval()(torch.from_numpy(rows)), expected)
    for other in (heads.mlp(12, torch.zeros(3)), heads.CosineHead(12, torch.zeros(3))):
        with pytest.raises(UserError, match="only a linear head can be solved"):
            solve.linear_of(other)


def test_several_classes_are_a_logistic_regression_each():
    """Against scikit-learn's on the same scaled features, with the penalty that was chosen."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(80, 6)).astype(np.float32)
    labels = (rows @ random.normal(size=(6, 3)) + random.normal(size=(80, 3)) > 0.5).astype(np.float32)
    solution = solve.solve_labels(rows, labels)
    logits = rows @ solution.weight.numpy().T + solution.bias.numpy()
    z = ridge.reduce(rows, torch.ones(80, dtype=torch.float64)).z.numpy()
    for c in range(3):
        inverse = 1 / (CURVATURE * solution.penalty)
        head = LogisticRegression(C=inverse, tol=1e-8, max_iter=5000).fit(z, labels[:, c])
        np.testing.assert_allclose(logits[:, c], head.decision_function(z), atol=1e-2)
    fitted = ((logits > 0) == labels).all(1).mean()
    assert 0.3 < float(solution.quality.split()[1]) <= fitted + 0.05


def test_samples_of_no_weight_are_as_if_they_were_not_there():
    """Of values, and of more than a thousand samples of classes, whose penalty has a closed form, too."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(2400, 6)).astype(np.float32)
    weights = (np.arange(2400) % 2).astype(np.float64)
    there = weights > 0
    values = rows[:, :2] @ random.normal(size=(2, 1)) + random.normal(size=(2400, 1))
    values[~there] += 5
    labels = (values[:, 0] > 0).astype(int)
    several = np.concatenate([values > 0, values > 1], 1).astype(np.float32)
    for fit, targets in (
        (solve.solve_values, values),
        (lambda r, y, weights=None: solve.solve_classes(r, y, 2, weights=weights), labels),
        (solve.solve_labels, several),
    ):
        weighted, alone = fit(rows, targets, weights=weights), fit(rows[there], targets[there])
        np.testing.assert_allclose(weighted.weight, alone.weight, atol=2e-3)
        np.testing.assert_allclose(weighted.bias, alone.bias, atol=2e-3)
        assert np.abs(fit(rows, targets).bias - alone.bias).max() > 0.1  # the control
