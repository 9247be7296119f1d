"""Searches: trials go on where they were, those behind are pruned, halving ends with what training alone gives."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest

from tests.commands import QUICK, REPO, refused, tl
from tl_lightning.config.space import space
from tl_lightning.errors import UserError
from tl_lightning.runs.sweep_folder import SweepFolder
from tl_lightning.search import Dimension, Search

SPACE = {"lr": Dimension(low=1e-4, high=1e-1, log=True), "size": Dimension(low=2, high=8, whole=True, step=2),
         "head": Dimension(("linear", "mlp"))}  # fmt: skip


def words_of(photos):
    return [*QUICK, f"data.root={photos}", "strategy=feature_extraction", "logger=csv", "callbacks.progress=null",
            "optimizer.lr=tag(log,interval(1e-4,1e-1))", "hydra/sweeper=optuna"]  # fmt: skip


def runs(sweep):
    return {int(f.parent.name): json.loads(f.read_text()) for f in sweep.glob("*/metrics.json")}


def test_a_killed_search_goes_on_and_counts_each_trial_once(photos, tmp_path):
    sweep = tmp_path / "search"
    words = [*words_of(photos), "hydra.sweeper.trials=6", "trainer.max_epochs=2", f"hydra.sweep.dir={sweep}"]
    process = subprocess.Popen([sys.executable, str(REPO / "train.py"), "-m", *words], stdout=subprocess.DEVNULL)
    while not (sweep / "2" / "config.yaml").is_file():  # in the middle of the third one
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = runs(sweep)
    assert len(done) == 2
    result = tl("-m", f"sweep={sweep}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = runs(sweep)
    assert len(found) == 6 and all(found[number] == metrics for number, metrics in done.items())
    search = Search(sweep / "search.log")
    assert search.told() == 6 and search.running() == []
    rows = list(csv.DictReader((sweep / "leaderboard.csv").open()))
    assert len({row["optimizer.lr"] for row in rows}) == 6  # no value is drawn twice by the one that went on
    page = (sweep / "leaderboard.html").read_text()
    assert "The search" in page and "What made the difference" not in page  # which six trials do not say
    (sweep / "search.log").write_text("{}\n")
    refused(tl("-m", f"sweep={sweep}", cwd=tmp_path), "search.log is damaged")


def test_trials_behind_the_others_are_pruned(tmp_path):
    """The median rule of Optuna, asked by the number of a trial as a job in another process asks."""
    search = Search(tmp_path / "journal", ["max"])
    for number in range(5):
        assert search.ask(SPACE)[0] == number
        for epoch in range(3):
            assert not search.report(number, epoch, 0.5 + 0.1 * number)
        search.tell(number, [0.5 + 0.1 * number])
    number, values = search.ask(SPACE)
    assert 1e-4 <= values["lr"] <= 1e-1 and values["size"] in (2, 4, 6, 8) and values["head"] in ("linear", "mlp")
    elsewhere = Search(tmp_path / "journal")
    assert not elsewhere.report(number, 0, 0.1)  # the first epoch says too little
    assert elsewhere.report(number, 1, 0.1)
    assert not elsewhere.report(number, 2, 0.9)
    search.tell(number, None, pruned=True)
    assert search.told() == 6
    with pytest.raises(UserError, match="other objectives"):
        Search(tmp_path / "journal", ["min"])


def test_a_pruned_job_is_a_run_that_ended_early(tmp_path):
    """Rates at which nothing is learned are behind those at which something is."""
    words = ["data.max_per_class=10", "backbone.image_size=32", "strategy=feature_extraction", "hydra/sweeper=optuna",
             "optimizer.lr=choice(1e-2,1e-9)", "trainer=cpu", "trainer.max_epochs=6", "hydra.sweeper.trials=9",
             "logger=csv", "report=false", f"hydra.sweep.dir={tmp_path}/search"]  # fmt: skip
    assert tl("-m", *words, cwd=tmp_path).returncode == 0
    found = runs(tmp_path / "search")
    pruned = [metrics for metrics in found.values() if metrics.get("ended", "").startswith("pruning")]
    assert pruned and all(metrics["epochs"] < 6 for metrics in pruned)
    assert "stopped" in (tmp_path / "search" / "leaderboard.md").read_text()
    run = next((tmp_path / "search" / str(n)) for n, metrics in found.items() if metrics in pruned)
    resumed = tl(f"resume={run}", cwd=tmp_path)  # outside of the search it is a run like any other
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 6


def test_halving_ends_with_what_training_alone_gives(photos, tmp_path):
    words = [*QUICK, f"data.root={photos}", "strategy=finetune_top", "optimizer.lr=1e-2,3e-3,1e-3,1e-4", "logger=csv",
             "trainer.max_epochs=4", "report=false"]  # fmt: skip
    result = tl("-m", "sweep=halving", *words, "hydra.sweep.dir=halving", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = runs(tmp_path / "halving")
    assert sorted(metrics["epochs"] for metrics in found.values()) == [1, 1, 2, 4]
    (winner,) = (n for n, metrics in found.items() if metrics["epochs"] == 4)
    rate = ("1e-2", "3e-3", "1e-3", "1e-4")[winner]
    alone = [word for word in words if not word.startswith("optimizer.lr")]
    assert tl(*alone, f"optimizer.lr={rate}", "hydra.run.dir=alone", cwd=tmp_path).returncode == 0
    expected = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    for name in ("val/accuracy", "val/loss", "final/loss"):
        assert found[winner][name] == pytest.approx(expected[name], abs=1e-6)
    before = (tmp_path / "halving" / str(winner) / "model.safetensors").stat().st_mtime_ns
    again = tl("-m", f"sweep={tmp_path}/halving", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "halving" / str(winner) / "model.safetensors").stat().st_mtime_ns == before


def test_quick_looks_at_all_and_trains_the_best(photos, tmp_path):
    words = [f"data.root={photos}", "backbone.image_size=32", "data.batch_size=4", "data.workers=0", "trainer=cpu",
             "trainer.max_epochs=1", "backbone.weights=null", "logger=csv", "hydra.sweeper.keep=1",
             "hydra.sweeper.price=false", "hydra.sweeper.then=[feature_extraction]",
             "backbone=mobilenet_v2,shufflenet_v2_x0_5"]  # fmt: skip
    result = tl("-m", "sweep=quick", *words, "hydra.sweep.dir=quick", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    told = [json.loads(f.read_text()) for f in sorted((tmp_path / "quick").glob("*/metrics.json"))]
    assert [metrics["epochs"] for metrics in told] == [0, 0, 1]


def test_several_objectives(photos, tmp_path):
    words = [*words_of(photos), "hydra.sweeper.trials=1", "hydra.sweeper.objectives=[val/accuracy,params/trainable]",
             "head=linear,mlp", f"hydra.sweep.dir={tmp_path}/search"]  # fmt: skip
    result = tl("-m", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert Search(tmp_path / "search" / "search.log", ["max", "min"]).told() == 1


@pytest.mark.parametrize(("words", "said"), [
    (["optimizer.lr=interval(1e-2,1e-4)"], "the interval is empty"),
    (["optimizer.lr=range(5,5)"], "the range is empty"),
    (["optimizer.lr=tag(log,interval(0,1))"], "the interval is empty"),
    (["optimizer.lr=1e-3"], "there is nothing to search"),
])  # fmt: skip
def test_a_space_that_is_none(words, said):
    with pytest.raises(UserError, match=said):
        space(words)


def test_a_search_that_cannot_be(photos, tmp_path):
    words = words_of(photos)
    refused(
        tl("-m", *words, "hydra.sweeper.objectives=[val/mAP]", cwd=tmp_path), "there is no val/mAP here", "val/macro_f1"
    )
    refused(tl("-m", *words, "hydra.sweeper.trials=0", cwd=tmp_path), "hydra.sweeper.trials")
    refused(tl("-m", *words, "optimizer.lrr=1,2", cwd=tmp_path), "optimizer.lrr")
    refused(
        tl("-m", *QUICK, f"data.root={photos}", "optimizer.lr=interval(1,2)", cwd=tmp_path), "a grid has no intervals"
    )
    assert not list(tmp_path.glob("multirun/*/*/[0-9]*"))  # nothing was begun


def test_halving_of_jobs_that_fail_says_why(tmp_path):
    result = tl("-m", "sweep=halving", *QUICK, "data.root=typo", "optimizer.lr=1,2", "hydra.sweep.dir=s", cwd=tmp_path)
    refused(result, "2 of the sweep's runs could not be made")
    assert "typo" in (tmp_path / "s" / "0" / "error.txt").read_text()


def test_a_job_that_fails_in_a_later_round_has_no_score(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "metrics.json").write_text('{"monitor": "val/accuracy", "mode": "max", "val/accuracy": 0.9}')
    assert SweepFolder(tmp_path).score(0) == 0.9
    (tmp_path / "0" / "error.txt").write_text("out of memory")
    assert SweepFolder(tmp_path).score(0) is None


def test_only_the_score_that_epochs_are_compared_by_prunes(photos, tmp_path):
    words = [*words_of(photos), "hydra.sweeper.trials=1", "hydra.sweeper.objectives=[val/loss]", "hydra.sweep.dir=s"]
    assert tl("-m", *words, cwd=tmp_path).returncode == 0
    assert "pruning" not in (tmp_path / "s" / "0" / ".hydra" / "overrides.yaml").read_text()
    refused(
        tl("-m", *words_of(photos), "hydra.sweeper.objectives=[test/accuracy]", cwd=tmp_path), "no test/accuracy here"
    )
    refused(tl("-m", "sweep=quick", "strategy=lora", cwd=tmp_path), "sweep=quick has strategies of its own")
