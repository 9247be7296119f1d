"""Scores, intervals, calibration, thresholds and comparisons against scikit-learn, scipy and formulas by hand."""

import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binom, bootstrap
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error

from tl_lightning.errors import UserError
from tl_lightning.evaluation import calibration, intervals, multi_label, regression, single_label
from tl_lightning.evaluation.calibration import Calibration
from tl_lightning.evaluation.comparison import compare
from tl_lightning.evaluation.thresholds import Aim, choose

NAMES = tuple("abcdefg")


@pytest.fixture(scope="module")
def answers():
    """Probabilities (N, 7) that are right about two times in three, for unequal classes (N,)."""
    random = np.random.default_rng(0)
    targets = random.choice(7, 400, p=np.arange(1, 8) / 28)
    logits = random.normal(size=(400, 7)) + 2.0 * np.eye(7)[targets]
    return softmax(logits, axis=1), targets


def values(findings):
    return {score.name: score.value for score in findings.scores}


def test_scores_of_classes_are_scikit_learns(answers):
    probabilities, targets = answers
    said, found = probabilities.argmax(1), single_label.judge(*answers, NAMES)
    order = {"accuracy": metrics.accuracy_score(targets, said),
             "balanced_accuracy": metrics.balanced_accuracy_score(targets, said),
             "macro_f1": metrics.f1_score(targets, said, average="macro"),
             "top5_accuracy": metrics.top_k_accuracy_score(targets, probabilities, k=5),
             "macro_auroc": metrics.roc_auc_score(targets, probabilities, multi_class="ovr"),
             "macro_average_precision": metrics.average_precision_score(np.eye(7)[targets], probabilities)}  # fmt: skip
    for name, expected in order.items():
        assert values(found)[name] == pytest.approx(expected, abs=1e-9), name
    precision, recall, f1, support = metrics.precision_recall_fscore_support(targets, said)
    for k, row in enumerate(found.tables["classes"]):
        assert (row["class"], row["support"]) == (NAMES[k], support[k])
        np.testing.assert_allclose([row["precision"], row["recall"], row["f1"]], [precision[k], recall[k], f1[k]])
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(targets, said))
    assert found.mistakes[0] == min(np.flatnonzero(said != targets), key=lambda i: probabilities[i, targets[i]])
    assert sorted(found.mistakes) == np.flatnonzero(said != targets).tolist()


def test_classes_without_samples_or_answers_count_for_nothing():
    probabilities = np.array([[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.1, 0.9, 0.0]])
    found = single_label.judge(probabilities, np.array([0, 0, 1]), ("a", "b", "never"))
    assert values(found)["macro_f1"] == values(found)["balanced_accuracy"] == 1
    assert found.tables["classes"][2] | {"support": 0} == {
        "class": "never", "precision": None, "recall": None, "f1": None, "support": 0, "auroc": None,
        "average_precision": None}  # fmt: skip


def test_intervals(answers):
    """Wilson's by his formula; the bootstrap of a confusion matrix as scipy's of the samples."""
    k, n, z = 145, 153, 1.959963984540054
    middle, half = (k + z * z / 2) / (n + z * z), z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    assert intervals.wilson(k, n) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert intervals.wilson(k, n) == pytest.approx((0.9002236, 0.9732700), abs=1e-6)
    probabilities, targets = answers
    said, found = probabilities.argmax(1), single_label.judge(*answers, NAMES)

    def macro_f1(t, s):
        return metrics.f1_score(t, s, average="macro", zero_division=0)

    theirs = bootstrap((targets, said), macro_f1, paired=True, vectorized=False, method="percentile",
                       n_resamples=1000, rng=1).confidence_interval  # fmt: skip
    mine = next(s for s in found.scores if s.name == "macro_f1")
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_values():
    random = np.random.default_rng(0)
    true = random.normal(size=(200, 2))
    predicted = true + random.normal(size=(200, 2)) * [0.3, 0.6]
    found = regression.judge(predicted, true, ("x", "y"))
    assert values(found) == pytest.approx({
        "mae": metrics.mean_absolute_error(true, predicted), "r2": metrics.r2_score(true, predicted),
        "rmse": math.sqrt(metrics.mean_squared_error(true, predicted))})  # fmt: skip
    errors = np.abs(predicted - true).mean(1)
    theirs = bootstrap((errors,), np.mean, method="percentile", rng=1).confidence_interval
    mae = found.scores[0]
    assert (mae.low, mae.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert "r2" not in values(regression.judge(predicted[:1], true[:1], ("x", "y")))


def test_several_classes():
    random = np.random.default_rng(0)
    targets = (random.random((150, 3)) < [0.5, 0.2, 0.4]).astype(int)
    probabilities = np.clip(0.25 + 0.5 * targets + random.normal(size=(150, 3)) * 0.25, 0.01, 0.99)
    said, found = probabilities > 0.5, multi_label.judge(probabilities, targets, ("a", "b", "c"))
    assert values(found) == pytest.approx(values(found) | {
        "accuracy": metrics.accuracy_score(targets, said), "macro_f1": metrics.f1_score(targets, said, average="macro"),
        "micro_f1": metrics.f1_score(targets, said, average="micro"),
        "macro_average_precision": metrics.average_precision_score(targets, probabilities)})  # fmt: skip
    stricter = multi_label.judge(probabilities, targets, ("a", "b", "c"), (0.9, 0.9, 0.9))
    assert stricter.tables["classes"][0]["precision"] >= found.tables["classes"][0]["precision"]
    assert stricter.tables["classes"][0]["recall"] < found.tables["classes"][0]["recall"]


def test_the_temperature_is_found_again_and_helps_on_other_samples():
    """Logits that are right in the mean, and made 2.5 times too sure."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(6000, 5)) * 2
    targets = np.array([random.choice(5, p=p) for p in softmax(logits, axis=1)])
    sure, (fit, rest) = logits * 2.5, np.split(np.arange(6000), [3000])
    t = calibration.temperature(lambda t: calibration.cross_entropy(sure[fit] / t, targets[fit]))
    assert t == pytest.approx(2.5, rel=0.05)
    before, after = (calibration.cross_entropy(sure[rest] / by, targets[rest]) for by in (1.0, t))
    assert after < before - 0.1
    assert after == pytest.approx(metrics.log_loss(targets[rest], softmax(sure[rest] / t, axis=1)), abs=1e-6)


def test_calibration_error_is_torchmetrics(answers):
    import torch

    probabilities, targets = answers
    rows = calibration.reliability(probabilities.max(1), probabilities.argmax(1) == targets)
    theirs = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(targets), 7, n_bins=15)
    assert calibration.expected_error(rows) == pytest.approx(float(theirs), abs=1e-6)
    assert sum(row["samples"] for row in rows) == 400


def test_abstaining_from_the_unsure_is_right_more_often(answers):
    probabilities, targets = answers
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    rows = calibration.abstention(confidence, right)
    assert rows[0]["right"] == right.mean()
    half = np.sort(confidence)[::-1][:200]
    assert rows[-1] == {"answered": 0.5, "right": right[confidence >= half[-1]].mean(), "least sure": half[-1]}
    assert rows[-1]["right"] > rows[0]["right"] + 0.1


@pytest.mark.parametrize("aim", ["precision:0.9", "recall:0.55", "f1"])
def test_thresholds_are_the_best_of_all(answers, aim):
    """Every probability there is, tried one by one."""
    probabilities, targets = answers
    answered = probabilities.argmax(1)[:, None] == np.arange(7)
    true = targets[:, None] == np.arange(7)
    name, least = aim.partition(":")[0], float(aim.partition(":")[2] or 0)
    chosen = choose(Aim.parsed(aim), probabilities[:, 4:], answered[:, 4:], true[:, 4:], NAMES[4:])
    for k, threshold in zip((4, 5, 6), chosen, strict=True):
        tried = {}
        for t in np.unique(probabilities[answered[:, k], k]):
            said = answered[:, k] & (probabilities[:, k] >= t)
            tried[t] = {"precision": metrics.precision_score(true[:, k], said, zero_division=0),
                        "recall": metrics.recall_score(true[:, k], said),
                        "f1": metrics.f1_score(true[:, k], said)}  # fmt: skip
        if name == "f1":
            assert tried[threshold]["f1"] == max(t["f1"] for t in tried.values())
        else:
            reached = [t for t in tried if tried[t][name] >= least]
            assert threshold == (min(reached) if name == "precision" else max(reached))


def test_thresholds_out_of_reach_name_the_best():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    answered, true = probabilities > 0.5, np.array([[False, True], [True, False], [False, True]])
    with pytest.raises(UserError, match=r"precision:0.9 cannot be reached for class 'a': the best is 0\.5000"):
        choose(Aim("precision", 0.9), probabilities, answered, true, "ab")
    with pytest.raises(UserError, match="hold none of class 'b'"):
        choose(Aim("f1", 0), probabilities, answered, true & [True, False], "ab")
    for wrong in ("accuracy", "precision", "precision:2", "recall:x", "f1:0.5"):
        with pytest.raises(UserError, match=f"threshold={wrong}: say precision"):
            Aim.parsed(wrong)


def test_two_models():
    """McNemar's exact test by the binomial sum; no difference without evidence."""
    a, b = np.ones(100), np.ones(100)
    a[:12], b[10:13] = 0, 0  # A alone is right at 12, B alone at 0..9
    found = compare(a, b)
    assert (found.only_a, found.only_b, found.difference) == (1, 10, pytest.approx(0.09))
    assert found.p == pytest.approx(2 * binom.cdf(1, 11, 0.5))
    assert found.interval[0] < 0.09 < found.interval[1]
    assert str(found).startswith("B is better than A: +0.0900")
    assert str(compare(b, a)).startswith("A is better than B")
    assert "do not tell A and B apart" in str(compare(a, a))
    assert compare(a, a).p == 1


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"temperature": float("nan")}, {"thresholds": (1.5,)}])
def test_calibration_that_cannot_be_meant(wrong):
    with pytest.raises(UserError):
        Calibration(**wrong)
