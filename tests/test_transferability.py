"""Scores of features, against their definitions written out, scikit-learn, and hand-computed values."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from tl_lightning.errors import UserError
from tl_lightning.transferability import evidence, relatedness, ridge, scores, similarity
from tl_lightning.transferability.drift import symmetric_kl
from tl_lightning.transferability.folds import stratified_folds


def blobs(n=60, d=12, classes=3, seed=0, spread=1.5):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = rng.normal(size=(classes, d))
    return (centres[labels] + spread * rng.normal(size=(n, d))).astype(np.float32), labels


@pytest.mark.parametrize("d", [12, 150])  # fewer and more features than images
def test_leaving_one_out_in_closed_form_equals_as_many_refits(d):
    rows, labels = blobs(d=d)
    w = torch.ones(len(rows), dtype=torch.float64)
    fit = ridge.ridge(ridge.reduce(rows, w), F.one_hot(torch.tensor(labels), 3).double(), w)
    x, onehot = rows.astype(np.float64), np.eye(3)[labels]
    x = (x - x.mean(0)) / x.std(0) ** 0.5
    refitted = cross_val_predict(Ridge(alpha=fit.penalty), x, onehot, cv=LeaveOneOut())
    np.testing.assert_allclose(fit.left_out.numpy(), refitted, atol=1e-8)
    assert fit.accuracy == (refitted.argmax(1) == labels).mean()

    def error(penalty):
        guess = cross_val_predict(Ridge(alpha=penalty), x, onehot, cv=LeaveOneOut())
        return ((onehot - guess) ** 2).sum()

    step = 10 ** (8 / 24)  # to the neighbouring penalties
    assert error(fit.penalty) <= min(error(fit.penalty * step), error(fit.penalty / step))


@pytest.mark.parametrize("d", [12, 150])
def test_leaving_folds_out_in_closed_form_equals_refits_around_the_same_means(d):
    rows, labels = blobs(d=d)
    fit = ridge.leave_one_out(rows, labels)
    folds = stratified_folds(labels, 5)
    assert [sorted(labels[folds == k]) for k in range(5)] == [[0] * 4 + [1] * 4 + [2] * 4] * 5
    onehot = np.eye(3)[labels]
    x = (rows - rows.mean(0, dtype=np.float64)) / rows.std(0, dtype=np.float64) ** 0.5
    for fold in range(5):
        kept = folds != fold
        refit = Ridge(alpha=fit.penalty, fit_intercept=False).fit(x[kept], (onehot - onehot.mean(0))[kept])
        expected = refit.predict(x[~kept]) + onehot.mean(0)
        np.testing.assert_allclose(fit.left_out.numpy()[~kept], expected, atol=1e-6)


def test_where_nothing_tells_balanced_classes_apart_accuracy_is_chance_and_not_zero():
    """Leaving one out moves the class means against it: a constant answer is then always wrong."""
    found = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        found.append(ridge.leave_one_out(random.normal(size=(40, 20)), np.arange(40) % 2).accuracy)
    assert 0.35 < np.mean(found) < 0.65
    assert stratified_folds(np.arange(2000) % 2, 5) is None  # many: each is left out by itself
    assert stratified_folds(np.array([0, 0, 0, 1]), 5) is None  # a class of one


@pytest.mark.parametrize("rows", [np.ones((5, 8)), np.ones((50, 8)), np.array([[0.0, np.nan]] * 9), [[0.0], [np.inf]]])
def test_features_that_tell_nothing_are_refused(rows):
    rows = np.asarray(rows, np.float32)
    with pytest.raises(UserError, match="not finite, or are the same for every sample"):
        ridge.leave_one_out(rows, np.arange(len(rows)) % 2)


def test_leaving_one_out_with_weights_equals_weighted_refits():
    rows, labels = blobs()
    w = np.array([3.0, 0.5, 1.0])[labels]
    onehot = F.one_hot(torch.tensor(labels), 3).double()
    fit = ridge.ridge(ridge.reduce(rows, torch.tensor(w)), onehot, torch.tensor(w))
    mean = np.average(rows, axis=0, weights=w)
    x = (rows - mean) / np.average((rows - mean) ** 2, axis=0, weights=w) ** 0.25
    for i in range(0, len(rows), 7):
        others = np.arange(len(rows)) != i
        refit = Ridge(alpha=fit.penalty).fit(x[others], onehot[others], sample_weight=w[others])
        np.testing.assert_allclose(fit.left_out[i].numpy(), refit.predict(x[[i]])[0], atol=1e-8)


@pytest.mark.parametrize("d", [8, 20])
def test_logme_is_the_greatest_evidence_there_is(d):
    rows, labels = blobs(n=30, d=d)
    f = rows.astype(np.float64)
    best = []
    for c in range(3):
        y = (labels == c).astype(np.float64)

        def minus_evidence(logs, y=y):
            alpha, beta = np.exp(logs)
            return -multivariate_normal.logpdf(y, np.zeros(30), np.eye(30) / beta + f @ f.T / alpha)

        best.append(-minimize(minus_evidence, [0.0, 2.0], method="Nelder-Mead", options={"xatol": 1e-6}).fun / 30)
    assert scores.logme(rows, labels) == pytest.approx(np.mean(best), abs=2e-3)


def test_logme_tells_good_features_from_bad():
    good, bad = (scores.logme(*blobs(n=90, spread=s)) for s in (0.5, 5.0))
    assert good > bad + 0.2


@pytest.mark.parametrize("d", [8, 80])
def test_h_score_is_the_trace_of_its_definition(d):
    rows, labels = blobs(d=d)
    f = rows.astype(np.float64) - rows.astype(np.float64).mean(0)
    shrunk = LedoitWolf().fit(f)
    expected_given_class = np.stack([f[labels == y].mean(0) for y in labels])
    between = np.cov(expected_given_class, rowvar=False)
    expected = np.trace(np.linalg.pinv(shrunk.covariance_) @ between) * (1 - shrunk.shrinkage_)
    assert scores.h_score(rows, labels) == pytest.approx(expected, rel=1e-6)
    assert scores.h_score(rows, labels) <= 2  # classes - 1


def test_nearest_neighbour_is_scikit_learns():
    rows, labels = blobs(n=80)
    knn = KNeighborsClassifier(1, metric="cosine", algorithm="brute")
    expected = (cross_val_predict(knn, rows, labels, cv=LeaveOneOut()) == labels).mean()
    assert scores.nearest_neighbour(rows, labels) == expected


# four images of two classes; three source classes
THETA = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3]])
LABELS = np.array([0, 0, 1, 1])


def test_leep_by_hand():
    joint = np.array([[1.3, 0.5, 0.2], [0.3, 0.6, 1.1]]) / 4
    conditional = joint / joint.sum(0)
    total = 0.0
    for theta, y in zip(THETA, LABELS, strict=True):
        total += math.log(sum(conditional[y, z] * theta[z] for z in range(3)))
    assert relatedness.leep(THETA, LABELS) == pytest.approx(total / 4)
    assert relatedness.leep(np.eye(2)[LABELS], LABELS) == 0  # the source's classes are the target's


def test_nce_by_hand():
    # source classes 0, 0, 2, 1: each tells the label for certain
    assert relatedness.nce(THETA, LABELS) == 0
    # one source class for everything tells nothing: -H(Y)
    assert relatedness.nce(np.tile([0.9, 0.1], (4, 1)), LABELS) == pytest.approx(-math.log(2))
    mixed = np.eye(2)[[0, 0, 0, 1]]  # P(z=0)=3/4 with labels 0, 0, 1; z=1 with label 1
    assert relatedness.nce(mixed, LABELS) == pytest.approx(0.75 * (2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))


def test_entropy_and_relationship():
    assert relatedness.entropy(np.full((5, 4), 0.25)) == pytest.approx(1)
    assert relatedness.entropy(np.eye(4)) == 0
    found = relatedness.relationship(THETA, LABELS, 3)
    np.testing.assert_allclose(found, [[0.65, 0.25, 0.1], [0.15, 0.3, 0.55], [1 / 3] * 3])


def test_drift_by_hand():
    zero, one = np.zeros(3), np.ones(3)
    assert symmetric_kl(zero, one, zero, one) == 0
    # KL(N(1,1) || N(0,1)) = 1/2 in both directions
    assert symmetric_kl(one, one, zero, one) == pytest.approx(1)
    # KL(N(0,4) || N(0,1)) + KL(N(0,1) || N(0,4)) = (4 - 1 - ln 4) / 2 + (1/4 - 1 + ln 4) / 2
    assert symmetric_kl(zero, 4 * one, zero, one) == pytest.approx(9 / 8)
    dead = np.array([1.0, 1.0, 0.0])
    assert symmetric_kl(zero, one, zero, dead) == 0  # one channel that was dead does not say everything


def test_forgetting_measures():
    torch.manual_seed(0)
    x = torch.randn(40, 6)
    q, _ = torch.linalg.qr(torch.randn(6, 6))
    assert similarity.linear_cka(x, x @ q * 3 + 5) == pytest.approx(1, abs=1e-6)
    y = torch.randn(40, 9)
    a, b = x - x.mean(0), y - y.mean(0)
    expected = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert similarity.linear_cka(x, y) == pytest.approx(float(expected), rel=1e-5)
    assert similarity.shift(x, x) == 0
    assert similarity.shift(x, 3 * x) == pytest.approx(2)
    assert similarity.agreement(torch.eye(4), torch.eye(4)[[0, 1, 3, 2]]) == 0.5
    expected = F.kl_div(y.log_softmax(1), (2 * y).softmax(1), reduction="batchmean")
    assert similarity.divergence(2 * y, y) == pytest.approx(float(expected), rel=1e-5)
    assert similarity.distance([torch.ones(4)], [torch.ones(4) * 1.5]) == pytest.approx(0.5)


def test_likeness_names_the_source_classes():
    found = evidence.likeness(THETA, LABELS, ["cat", "dog"], ["tabby", "puma", "husky"], top=2)
    assert found.similar["cat"] == (("tabby", pytest.approx(0.65)), ("puma", pytest.approx(0.25)))
    assert found.similar["dog"][0][0] == "husky"


def test_more_features_than_images_and_one_image_in_a_class():
    rows, labels = blobs(n=9, d=200)
    labels = np.where(np.arange(9) == 0, 2, labels % 2)
    tap = evidence.tap("all", rows, labels)
    assert 0 <= tap.accuracy <= 8 / 9  # left out, nothing is known of the lone image's class
    assert all(math.isfinite(v) for v in (tap.logme, tap.h_score, tap.nearest))


def test_facts_of_several_classes_at_once():
    """Against scikit-learn, by hand, and where every sample has one class against what is said of classes."""
    from sklearn.metrics import average_precision_score

    random = np.random.default_rng(0)
    rows = random.normal(size=(90, 8))
    several = (rows[:, :3] + random.normal(size=(90, 3)) > 0.3).astype(np.float32)
    fit = ridge.leave_one_out(rows, several)
    assert fit.average_precision == pytest.approx(average_precision_score(several, fit.left_out.numpy()))
    assert 0.6 < evidence.tap("x", rows, several).accuracy < 1
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    alike = unit @ unit.T - 2 * np.eye(90)
    dice = []
    for own, other in zip(several, several[alike.argmax(1)], strict=True):
        dice.append(2 * (own * other).sum() / (own.sum() + other.sum()) if own.sum() + other.sum() else 1.0)
    assert scores.nearest_neighbour(rows, several) == pytest.approx(np.mean(dice))
    classes = np.arange(90) % 3
    onehot = np.eye(3)[classes]
    for score in (scores.logme, scores.h_score):
        assert score(rows, onehot) == pytest.approx(score(rows, classes))
    assert scores.nearest_neighbour(rows, onehot) == pytest.approx(scores.nearest_neighbour(rows, classes))
