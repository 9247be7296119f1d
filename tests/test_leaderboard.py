"""The leaderboard: configurations folded, told apart by their seeds, read from folders of any kind."""

import csv
import json
import time

import numpy as np
import pytest
import yaml
from scipy import stats

import tl_lightning as tl
from tests.test_report_page import Page
from tl_lightning.cli.verbs import act
from tl_lightning.evaluation.leaders import Summary, apart, front
from tl_lightning.jobs.leaderboard import leaderboard
from tl_lightning.jobs.leaderboard_page import lines, write


def job(folder, words, metrics=None, error=""):
    """A run's folder as a sweep leaves it."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"{k}={v}" for k, v in words.items()]))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps({"monitor": "val/accuracy", **metrics}))
    if error:
        (folder / "error.txt").write_text(error + "\n")


@pytest.fixture
def sweep(tmp_path):
    """Two backbones by two strategies by three seeds; one job failed, one was killed."""
    random, number = np.random.default_rng(0), 0
    for backbone, level in (("resnet18", 0.9), ("vgg16", 0.7)):
        for strategy, gain, seconds in (("lp_ft", 0.02, 60), ("linear_probe", 0.0, 10)):
            for seed in range(3):
                score = level + gain + 0.001 * seed + random.normal() * 1e-4
                words = {"backbone": backbone, "strategy": strategy, "seed": seed, "data.root": "photos"}
                metrics = {"val/accuracy": score, "seconds/total": seconds + seed, "epochs": 2, "seconds/fit": 5.0,
                           "samples/train": 100, "params/trainable": 1000, "val/macro_f1": score - 0.1}  # fmt: skip
                job(tmp_path / "sweep" / str(number), words, metrics)
                number += 1
    words = {"backbone": "vgg16", "strategy": "lp_ft", "seed": 3, "data.root": "photos"}
    job(tmp_path / "sweep" / "12", words, error="no room")
    job(tmp_path / "sweep" / "13", {**words, "seed": 4})
    return tmp_path / "sweep"


def test_summaries_are_scipys():
    values = [0.91, 0.93, 0.9, 0.94]
    found = Summary.of(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.number, found.mean, found.deviation) == (
        4,
        pytest.approx(np.mean(values)),
        pytest.approx(np.std(values, ddof=1)),
    )
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert Summary.of([0.5]) == Summary(1, 0.5)


def test_configurations_are_told_apart_as_scipy_does():
    a, b = {"0": 0.9, "1": 0.8, "2": 0.85}, {"0": 0.89, "1": 0.78, "2": 0.845}
    assert apart(a, b) == pytest.approx(stats.ttest_rel(list(a.values()), list(b.values())).pvalue)
    other = {"7": 0.7, "8": 0.6}
    expected = stats.ttest_ind(list(a.values()), list(other.values()), equal_var=False).pvalue
    assert apart(a, other) == pytest.approx(expected)
    assert apart(a, {"9": 0.5}) is None
    assert (apart(a, a), apart(a, {k: v - 0.25 for k, v in a.items()})) == (1.0, pytest.approx(0.0, abs=1e-9))
    same, lower = {"0": 0.9, "1": 0.9}, {"0": 0.89, "1": 0.89}  # seeds that change nothing tell nothing
    assert (apart(same, lower), apart(same, same)) == (None, 1.0)
    assert Summary.of([0.9, 0.9]).low is None


def test_the_front_holds_what_nothing_beats():
    random = np.random.default_rng(0)
    scores, costs = random.integers(0, 20, 60) / 20, random.integers(0, 20, 60) / 20
    points = list(zip(costs, scores, strict=True))
    beaten = {p for p in points for q in points if q != p and q[0] <= p[0] and q[1] >= p[1]}
    expected = set(points) - beaten
    found = front(scores.tolist(), costs.tolist())
    assert {(costs[i], scores[i]) for i in found} == expected


def test_seeds_are_folded_and_the_best_comes_first(sweep):
    board = leaderboard([sweep])
    assert board.words == ("backbone", "strategy")
    assert [(row.words["backbone"], row.words["strategy"]) for row in board.rows] == [
        ("resnet18", "lp_ft"), ("resnet18", "linear_probe"), ("vgg16", "lp_ft"), ("vgg16", "linear_probe")]  # fmt: skip
    best = board.rows[0]
    scores = [json.loads((sweep / str(i) / "metrics.json").read_text())["val/accuracy"] for i in range(3)]
    assert best.numbers["val/accuracy"].mean == pytest.approx(np.mean(scores))
    assert best.numbers["val/accuracy"].number == 3
    assert best.numbers["images_per_second"].mean == pytest.approx(40)
    assert [row.tie for row in board.rows] == [True, False, False, False]  # paired, 0.02 is far more than chance
    assert [row.leads for row in board.rows] == [True, True, False, False]
    assert {job.path.name: job.error.split(",")[0] for job in board.failed} == {
        "12": "no room",
        "13": "it was not finished",
    }
    assert "seed=3" in board.failed[0].command and board.failed[0].command.startswith("tl train ")


def test_where_and_sort(sweep):
    some = leaderboard([sweep], {"strategy": "lp_ft"})
    assert len(some.rows) == 2 and some.words == ("backbone",)
    cheap = leaderboard([sweep], sort="seconds/total")
    assert cheap.rows[0].words["strategy"] == "linear_probe"
    assert cheap.best.words["strategy"] == "lp_ft" and lines(cheap)[0].startswith(
        "best: backbone=resnet18 strategy=lp_ft"
    )
    with pytest.raises(tl.UserError, match=r"where=strateg=\.\.\.: no run was told so: did you mean strategy"):
        leaderboard([sweep], {"strateg": "lp_ft"})
    with pytest.raises(tl.UserError, match="sort=acuracy"):
        leaderboard([sweep], sort="acuracy")


def test_files_and_page(sweep, tmp_path, capsys):
    (sweep / "0" / "report.html").write_text("<p>")
    act("leaderboard", [str(sweep)])
    said = capsys.readouterr().out
    assert "best: backbone=resnet18 strategy=lp_ft" in said and "failed: " in said
    rows = list(csv.DictReader((sweep / "leaderboard.csv").open()))
    assert [float(row["val/accuracy"]) for row in rows] == sorted(
        (float(r["val/accuracy"]) for r in rows), reverse=True
    )
    deviation = leaderboard([sweep]).rows[0].numbers["val/accuracy"].deviation
    assert float(rows[0]["val/accuracy/sd"]) == pytest.approx(deviation)
    page = Page((sweep / "leaderboard.html").read_text())
    assert page.open == []
    assert [p for p in page.refers if not p.startswith(("#", "data:image/")) and not (sweep / p).exists()] == []
    assert "0/report.html" in page.refers
    assert sum(tag == "svg" for tag, _ in page.tags) == 3  # cost, backbone by strategy, every choice
    assert "no room" in page.text and "tl train backbone=vgg16" in page.text
    assert "| best * | resnet18 | lp_ft | 3 |" in (sweep / "leaderboard.md").read_text()


def test_one_seed_says_that_nothing_is_known(tmp_path):
    for i, score in enumerate((0.8, 0.9)):
        job(tmp_path / str(i), {"strategy": "ab"[i]}, {"val/accuracy": score})
    board = leaderboard([tmp_path])
    assert [row.tie for row in board.rows] == [True, None]
    assert "too few seeds" in lines(board)[1]


def test_ties_and_the_cheapest_of_them(tmp_path):
    for i, (strategy, seconds) in enumerate((("slow", 100), ("quick", 10))):
        for seed, score in enumerate((0.8, 0.9, 0.85)):
            metrics = {"val/accuracy": score + 0.001 * (i - 1) * (-1) ** seed, "seconds/total": seconds}
            job(tmp_path / f"{i}{seed}", {"strategy": strategy, "seed": seed}, metrics)
    board = leaderboard([tmp_path])
    assert [row.tie for row in board.rows] == [True, True]
    assert any("the seeds do not tell it from 1 more" in line for line in lines(board))


def test_scores_that_fall_are_best_when_low(tmp_path):
    for i, score in enumerate((2.0, 1.0, 3.0)):
        job(
            tmp_path / str(i),
            {"optimizer.lr": i},
            {"monitor": "val/rmse", "mode": "min", "val/rmse": score, "seconds/total": 1.0 + i},
        )
    board = leaderboard([tmp_path])
    assert [row.words["optimizer.lr"] for row in board.rows] == ["1", "0", "2"]
    assert write(board, tmp_path)[2].is_file()


def test_runs_of_earlier_releases_are_asked_for_their_task(tmp_path):
    for i, score in enumerate((2.0, 1.0)):
        job(tmp_path / str(i), {"optimizer.lr": i}, {"monitor": "val/rmse", "val/rmse": score})
        task = {"_target_": "tl_lightning.tasks.Regression", "outputs": ["y"]}
        (tmp_path / str(i) / "model.json").write_text(json.dumps({"format": 1, "task": task}))
    assert leaderboard([tmp_path]).best.words["optimizer.lr"] == "1"


def test_what_is_none_of_ours(sweep, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(tl.UserError, match="there is no finished run"):
        leaderboard([tmp_path / "empty"])
    with pytest.raises(tl.UserError, match="nowhere is no folder"):
        leaderboard([tmp_path / "nowhere"])
    (sweep / "0" / "metrics.json").write_text("{broken")
    (sweep / "mlruns").mkdir()
    (sweep / "mlruns" / "meta.yaml").write_text("a: 1")
    (sweep / "14").mkdir()
    job(sweep / "15", {"strategy": "regression"}, {"monitor": "val/rmse", "val/rmse": 1.0})
    job(sweep / "16", {"strategy": "<b>$x$"}, {"val/accuracy": 0.1})
    board = leaderboard([sweep])
    assert board.rows[0].numbers["val/accuracy"].number == 2
    assert any("metrics.json is damaged" in remark for remark in board.remarks)
    assert any("15: left out, it is not about val/accuracy" in remark for remark in board.remarks)
    page = Page(write(board, tmp_path)[2].read_text())
    assert page.open == [] and "<b>$x$" in page.text


def test_runs_without_words_and_of_other_classes(sweep, tmp_path):
    """Runs from Python are no repetitions of one another, and runs of other classes are no competitors."""
    for name, score in (("a", 0.5), ("b", 0.6)):
        (sweep / name).mkdir()
        (sweep / name / "metrics.json").write_text(json.dumps({"monitor": "val/accuracy", "val/accuracy": score}))
    job(sweep / "99", {"backbone": "x"}, {"val/accuracy": 1.0, "classes": ["cat", "dog"]})
    board = leaderboard([sweep])
    assert {row.words.get("run") for row in board.rows} == {None, "a", "b"}
    assert board.best.words["backbone"] == "resnet18"
    assert any("99: left out, it is not about" in remark for remark in board.remarks)


def test_two_thousand_runs_take_seconds(tmp_path):
    for i in range(2000):
        words = {"backbone": f"net{i % 20}", "strategy": f"s{i // 20 % 10}", "seed": i // 200}
        job(tmp_path / str(i), words, {"val/accuracy": 0.5 + i % 7 / 100, "seconds/total": 10 + i % 13})
    began = time.perf_counter()
    board = leaderboard([tmp_path])
    write(board, tmp_path)
    assert time.perf_counter() - began < 30  # alone it is far less: docs/sweeps.md
    assert len(board.rows) == 200 and all(len(row.jobs) == 10 for row in board.rows)
