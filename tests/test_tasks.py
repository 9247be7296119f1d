"""What is asked: values as the third kind of task, and how labels tell which it is."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.preprocessing import StandardScaler

import tl_lightning as tl
from tests.texts import read_texts, write_texts
from tl_lightning.heads import linear, solve
from tl_lightning.tasks import Classification, Multilabel, Regression, classification, infer, regression
from tl_lightning.tasks.task import Labels

WORDS = "the quick brown fox jumps over a lazy dog".split()
VALUES = [(" ".join(["good"] * (i % 5) + [WORDS[i % 9], WORDS[(i * 5) % 9]]), f"{0.5 * (i % 5) + 10:.2f}")
          for i in range(60)]  # fmt: skip


def labels(*cells, **options):
    return Labels(tuple(cells), "data.label=x: here", **options)


@pytest.fixture
def words(model):
    pytest.importorskip("transformers")
    return {"backbone": "text", "backbone.name": str(model), "backbone.length": 16, "data.batch_size": 8,
            "trainer": "cpu", "trainer.max_epochs": 2}  # fmt: skip


@pytest.mark.parametrize("strategy", ["linear_probe", "finetune_all", "finetune_top"])
def test_values_are_a_run_like_any_other(strategy, words, tmp_path):
    """Scores against scikit-learn's on what the written model says, in the labels' own units."""
    file = write_texts(tmp_path / "x.csv", VALUES, ("text", "score"))
    run = tl.train(file, strategy=strategy, run_dir=tmp_path / "run", **words, **{"data.label": "score"})
    held = [(row["path"], row["class"]) for row in _rows(run) if row["split"] == "val"]
    texts = {f"{i}": text for i, (text, _) in enumerate(VALUES, 1)}
    found = run.predict([texts[path.partition(":")[0]] for path, _ in held])
    truth = np.array([float(label) for _, label in held])
    assert found.outputs == ("score",)
    assert found.answers == pytest.approx(found.probabilities[:, 0].tolist())
    for name, score in (("rmse", root_mean_squared_error), ("mae", mean_absolute_error), ("r2", r2_score)):
        assert run.metrics[f"val/{name}"] == pytest.approx(score(truth, found.probabilities[:, 0]), rel=1e-2, abs=1e-4)
    assert run.metrics["monitor"] == "val/rmse"
    assert run.evaluate()["val/rmse"] == pytest.approx(
        run.metrics["val/rmse"], rel=1e-2
    )  # rows were kept in half precision
    assert "scatter, val" in run._repr_html_()
    if strategy == "linear_probe":
        assert run.metrics["val/r2"] > 0.5
    else:  # the epoch of the smallest error is the one that is kept
        errors = [float(r["val/rmse"]) for r in run.history if r["val/rmse"]]
        assert run.metrics["best/epoch"] == max(i for i, e in enumerate(errors) if e == min(errors))


def _rows(run):
    import csv

    with (run.path / "splits.csv").open() as file:
        return list(csv.DictReader(file))


def test_several_columns_of_values(words, tmp_path):
    rows = [(text, value, f"{-2 * float(value)}") for text, value in VALUES]
    file = write_texts(tmp_path / "x.csv", rows, ("text", "score", "loss"))
    run = tl.train(
        file, strategy="linear_probe", run_dir=tmp_path / "run", **words, **{"data.label": ["score", "loss"]}
    )
    found = run.predict([VALUES[0][0], VALUES[4][0]])
    assert found.outputs == ("score", "loss")
    np.testing.assert_allclose(found.probabilities[:, 1], -2 * found.probabilities[:, 0], rtol=1e-3)
    assert json.loads((run.path / "model.json").read_text())["task"]["_target_"] == "tl_lightning.tasks.Regression"


def test_the_head_is_scikit_learns_ridge_regression():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 6)).astype(np.float32)
    values = (rows @ rng.normal(size=(6, 2)) + 0.3 * rng.normal(size=(50, 2)) + 5).astype(np.float32)
    task = Regression(("a", "b")).fitted(values, "none", "none")
    solution = task.solve(rows, values)
    head = linear(6, task.start())
    solve.install(head, solution)
    found = task.predictions(head.eval()(torch.from_numpy(rows))).detach().numpy()
    unit = StandardScaler().fit(rows.astype(np.float64))
    scaled = (rows - unit.mean_) / np.sqrt(unit.scale_)
    expected = Ridge(solution.penalty).fit(scaled, (values - task.mean) / task.deviation).predict(scaled)
    np.testing.assert_allclose(found, expected * task.deviation + task.mean, rtol=1e-3, atol=1e-3)


def test_losses_of_values():
    values = np.array([[1.0], [3.0], [8.0]], np.float32)
    outputs, targets = torch.tensor([[0.1], [2.0], [-1.0]]), torch.from_numpy(values)
    scaled = (targets - values.mean()) / values.std()
    for huber, expected in ((None, F.mse_loss(outputs, scaled)), (0.5, F.huber_loss(outputs, scaled, delta=0.5))):
        task = Regression(("a",), huber=huber).fitted(values, "none", "none")
        torch.testing.assert_close(task.training_loss()(outputs, targets), expected)


SAID = [
    (["1", "2", "3"] * 20, Classification, "classification: 3 whole numbers as labels; task=regression"),
    ([str(i) for i in range(60)], Regression, "regression: 60 different numbers as labels; task=classification"),
    (["1.5", "2", "2.5"] * 20, Regression, "regression: numbers that are not whole, like 1.5 as labels"),
    (["yes", "no", "1"] * 20, Classification, ""),
    (["a|b", "", "b"] * 20, Multilabel, ""),
]


@pytest.mark.parametrize(("cells", "kind", "said"), SAID)
def test_which_task_labels_call_for_and_that_it_is_said(cells, kind, said, caplog):
    caplog.set_level("INFO")
    made, _ = infer(labels(*cells, separator="|" if kind is Multilabel else ""))
    assert type(made) is kind
    assert said in caplog.text


def test_folders_of_numbers_are_classes():
    assert type(infer(labels("1.5", "2.5", names=True))[0]) is Classification


@pytest.mark.parametrize(("cells", "said"), [
    (["1.5", "2.5", "good", "0.5"] + ["3.5", "4.5"] * 20, "row 3 holds 'good', which is no number"),
    (["1.5", "nan"] + ["3.5", "4.5"] * 20, "row 2 holds nan: values must be finite"),
    (["1.5", "2", "-inf"] + ["3.5", "4.5"] * 20, "row 3 holds -inf: values must be finite"),
    (["2.5"] * 30, "label is 2.5 everywhere, of which nothing can be learned"),
])  # fmt: skip
def test_values_that_are_none(cells, said):
    for make in (infer, regression):
        with pytest.raises(tl.UserError, match=said):
            make(labels(*cells))


def test_what_does_not_go_with_values(words, tmp_path):
    file = write_texts(tmp_path / "x.csv", VALUES, ("text", "label"))
    for wrong, said in (
        ({"data.sampler": "balanced"}, "for samples of one class each"),
        ({"data.class_weights": "auto"}, "for samples of one class each"),
        ({"data.max_per_class": 3}, "data.max_per_class is for classes"),
        ({"strategy": "auto"}, "name a strategy"),
        ({"task": "classification"}, "numbers there, like 10.50"),
        ({"task.huber": 0}, "huber=0"),
    ):
        with pytest.raises(tl.UserError, match=said):
            tl.train(file, run_dir=tmp_path / "run", **{"strategy": "linear_probe", **words, **wrong})


def test_a_split_of_values_holds_low_and_high_ones(tmp_path):
    rows = [(f"text {i}", f"{i / 7:.3f}") for i in range(80)]
    found = read_texts(write_texts(tmp_path / "x.csv", rows), val_fraction=0.25)
    held = found.targets("val")[:, 0]
    assert len(held) == 20
    assert [int(((held >= a) & (held < a + 80 / 28)).sum()) for a in np.arange(4) * 80 / 28] == [5, 5, 5, 5]


def test_smoothing_of_several_labels_by_hand():
    task = Multilabel(("a", "b"), label_smoothing=0.2).fitted(np.array([[1.0, 0.0]], np.float32), "none", "none")
    outputs, targets = torch.tensor([[0.3, -1.0], [2.0, 0.1]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = F.binary_cross_entropy_with_logits(outputs, targets * 0.8 + 0.1)
    torch.testing.assert_close(task.training_loss()(outputs, targets), expected)
    torch.testing.assert_close(task.evaluation_loss()(outputs, targets),
                               F.binary_cross_entropy_with_logits(outputs, targets))  # fmt: skip


def test_classes_may_look_like_numbers():
    made, cells = classification(labels("1.0", "2", "1.0"))
    assert cells == ["1", "2", "1"]
    assert made.naming(cells).outputs == ("1", "2")
