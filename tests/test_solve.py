"""The exact head: against scikit-learn, and against leaving every image out by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from tl_lightning import heads
from tl_lightning.errors import UserError
from tl_lightning.features import solve

ONES = torch.ones(60, dtype=torch.float64)


def blobs(n=60, d=12, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = rng.normal(size=(classes, d))
    return (centres[labels] + 1.5 * rng.normal(size=(n, d))).astype(np.float32), labels


@pytest.mark.parametrize("d", [12, 150])  # fewer and more features than images
def test_leave_one_out_equals_leaving_one_out(d):
    rows, labels = blobs(d=d)
    reduced = solve.reduce(rows, ONES)
    onehot = F.one_hot(torch.tensor(labels), 3).double()
    penalty, _, accuracy = solve.ridge(reduced, onehot, ONES)
    x = StandardScaler().fit_transform(rows.astype(np.float64))

    def error(penalty):
        total, right = 0.0, 0
        for i in range(len(x)):
            others = np.arange(len(x)) != i
            guess = Ridge(alpha=penalty).fit(x[others], onehot[others]).predict(x[[i]])[0]
            total += ((onehot[i].numpy() - guess) ** 2).sum() / len(x)
            right += guess.argmax() == labels[i]
        return total, right / len(x)

    best, found = error(penalty)
    assert found == pytest.approx(accuracy)
    step = 10 ** (8 / 24)
    assert best <= min(error(penalty * step)[0], error(penalty / step)[0])


@pytest.mark.parametrize("d", [12, 150])
@pytest.mark.parametrize("weights", [None, [3.0, 0.5, 1.0]])
def test_the_head_is_scikit_learns_logistic_regression(d, weights):
    rows, labels = blobs(d=d)
    chosen = None if weights is None else torch.tensor(weights)
    solution = solve.solve(rows, labels, 3, chosen)
    w = np.ones(len(rows)) if weights is None else np.array(weights)[labels]
    scaler = StandardScaler().fit(rows.astype(np.float64), sample_weight=w)
    reference = LogisticRegression(C=1 / (solve._CURVATURE * solution.penalty), tol=1e-8, max_iter=5000)
    reference.fit(scaler.transform(rows), labels, sample_weight=w)
    expected = reference.predict_proba(scaler.transform(rows))
    found = F.softmax(torch.from_numpy(rows) @ solution.weight.T + solution.bias, 1)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


def test_constant_and_huge_features_do_no_harm():
    rows, labels = blobs()
    odd = np.concatenate([rows, np.full((60, 1), 7.0), 1e4 * rows[:, :1]], 1).astype(np.float32)
    solution = solve.solve(odd, labels, 3)
    assert torch.isfinite(solution.weight).all()
    assert (solution.weight[:, 12] == 0).all()
    plain = solve.solve(rows, labels, 3)
    guesses = [(torch.tensor(x) @ s.weight.T + s.bias).argmax(1) for x, s in ((odd, solution), (rows, plain))]
    assert (guesses[0] == guesses[1]).double().mean() > 0.95


def test_chunks_and_half_precision_change_nothing(monkeypatch):
    rows, labels = blobs()
    whole = solve.solve(rows, labels, 3)
    monkeypatch.setattr(solve, "_CHUNK", 7)
    torch.testing.assert_close(solve.solve(rows, labels, 3).weight, whole.weight, rtol=1e-3, atol=1e-4)
    halves = solve.solve(rows.astype(np.float16), labels, 3)
    torch.testing.assert_close(halves.weight, whole.weight, rtol=0.05, atol=5e-3)


def test_only_a_linear_head_can_be_solved():
    rows, labels = blobs()
    head = heads.linear(12, torch.full((3,), 1 / 3), dropout=0.5)
    solution = solve.solve(rows, labels, 3)
    solve.install(head, solution)
    expected = torch.from_numpy(rows) @ solution.weight.T + solution.bias
    torch.testing.assert_close(head.eval()(torch.from_numpy(rows)), expected)
    for other in (heads.mlp(12, torch.ones(3) / 3), heads.CosineHead(12, torch.ones(3) / 3)):
        with pytest.raises(UserError, match="only a linear head can be solved"):
            solve.linear_of(other)
