"""Sweeps that were stopped go on; nothing ends all of one; two never mix."""

import csv
import json
import shutil

import pytest
import yaml
from filelock import FileLock
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from tests.commands import QUICK, refused, tl
from tests.test_stopped_runs import interrupted
from tl_lightning.options import conf_dir, options


def numbers(path):
    values = json.loads((path / "metrics.json").read_text())
    return {k: v for k, v in values.items() if not k.startswith(("seconds", "memory"))}


def test_a_sweep_goes_on_where_it_was(photos, tmp_path):
    words = [*QUICK, f"data.root={photos}", "strategy=finetune_top", "seed=0,1,2", "trainer.max_epochs=2"]
    first = tl("-m", *words, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    sweep = tmp_path / "sweep"
    before = [numbers(sweep / str(i)) for i in range(3)]
    board = (sweep / "leaderboard.csv").read_text()
    written = (sweep / "0" / "model.safetensors").stat().st_mtime_ns
    for name in ("metrics.json", "model.json", "model.safetensors", "overview.json"):  # killed after its last epoch
        (sweep / "1" / name).unlink()
    shutil.rmtree(sweep / "2" / "checkpoints")  # killed in its first epoch
    (sweep / "2" / "notes.txt").write_text("the user's own")
    (sweep / "2" / "metrics.json").unlink()
    second = tl("-m", "sweep=sweep", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "done      " in second.stdout and "resuming  " in second.stdout
    assert [numbers(sweep / str(i)) for i in range(3)] == before
    assert (sweep / "2" / "notes.txt").read_text() == "the user's own"
    assert (sweep / "0" / "model.safetensors").stat().st_mtime_ns == written
    third = tl("-m", *words, "hydra.sweep.dir=sweep", cwd=tmp_path)  # the same words in the same folder
    assert third.returncode == 0 and third.stdout.count("done      ") == 3
    rows = [list(csv.DictReader(text.splitlines())) for text in (board, (sweep / "leaderboard.csv").read_text())]
    assert rows[0][0]["val/accuracy"] == rows[1][0]["val/accuracy"]
    refused(tl("-m", "sweep=sweep", "seed=5", cwd=tmp_path), "goes on with the words that began it: leave out seed=5")
    refused(tl("-m", *words, "optimizer.lr=1e-2", "hydra.sweep.dir=sweep", cwd=tmp_path), "already holds a run")
    refused(tl("-m", "sweep=nowhere", cwd=tmp_path), "nowhere holds no sweep")
    with FileLock(sweep / ".lock"):
        refused(tl("-m", "sweep=sweep", cwd=tmp_path), "another process works on the sweep in")
    (sweep / "sweep.json").write_text("{}")
    refused(tl("-m", "sweep=sweep", cwd=tmp_path), "sweep.json is damaged")


def test_folds_are_one_row_of_the_leaderboard(photos, tmp_path):
    words = [*QUICK, f"data.root={photos}", "sweep=folds", "strategy=feature_extraction", "hydra.sweep.dir=sweep"]
    result = tl("-m", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader((tmp_path / "sweep" / "leaderboard.csv").read_text().splitlines()))
    scores = [numbers(tmp_path / "sweep" / str(i))["val/accuracy"] for i in range(5)]
    assert [row["runs"] for row in rows] == ["5"]
    assert float(rows[0]["val/accuracy"]) == pytest.approx(sum(scores) / 5, abs=1e-4)
    validated = [
        row["path"]
        for i in range(5)
        for row in csv.DictReader((tmp_path / "sweep" / str(i) / "splits.csv").read_text().splitlines())
        if row["split"] == "val"
    ]
    assert len(validated) == len(set(validated)) == sum(1 for _ in photos.rglob("*.png"))


def test_a_sweep_stopped_by_hand_says_how_to_go_on(photos, tmp_path):
    words = [*QUICK, f"data.root={photos}", "strategy=finetune_all", "seed=0,1", "trainer.max_epochs=200"]
    code, _, errors = interrupted(["-m", *words, "hydra.sweep.dir=sweep"], tmp_path, "sweep/0/checkpoints/last.ckpt")
    assert code == 130
    assert errors.strip().splitlines()[-1].endswith("go on with: python train.py -m sweep=sweep")
    begun = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["words"]
    assert {"seed=0,1", "trainer.max_epochs=200"} <= set(begun)


def test_an_error_that_nobody_expects_does_not_end_a_sweep(photos, tmp_path):
    (tmp_path / "own_package.py").write_text(
        "from tl_lightning.backbones import torchvision\n"
        "def net(size=32):\n"
        "    if size == 33:\n"
        "        raise RuntimeError('out of memory')\n"
        "    return torchvision('mobilenet_v2', weights=None, image_size=size)\n"
    )
    words = ["backbone._target_=own_package.net", "allow=[own_package]", "backbone.size=33,32", f"data.root={photos}",
             "data.batch_size=4", "data.workers=0", "strategy=linear_probe"]  # fmt: skip
    result = tl("-m", *words, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode == 1
    assert result.stderr.strip().endswith("error: 1 of the sweep's runs could not be made: 0")
    (sweep,) = (tmp_path / "multirun").glob("*/*")
    assert "out of memory" in (sweep / "0" / "error.txt").read_text()
    assert (sweep / "1" / "metrics.json").is_file()
    assert "out of memory" in (sweep / "leaderboard.html").read_text()


def test_a_sweep_that_is_none(tmp_path):
    refused(tl("-m", "sweep=", cwd=tmp_path), "sweep= names no sweep")
    refused(tl("-m", "sweep=strategys", cwd=tmp_path), "strategys holds no sweep", "did you mean strategies")


def test_sweeps_that_are_ready(photos, tmp_path):
    """Their words are those of the command line, and may be overruled there."""
    words = [*QUICK, f"data.root={photos}", "sweep=rates", "strategy=feature_extraction", "optimizer.lr=0.001,0.01"]
    result = tl("-m", *words, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader((tmp_path / "sweep" / "leaderboard.csv").open()))
    assert {row["optimizer.lr"] for row in rows} == {"0.001", "0.01"}
    assert tl("-m", "sweep=sweep", cwd=tmp_path).stdout.count("done      ") == 2
    for job in "01":  # TensorBoard's HPARAMS page has a column for each word that was swept
        board = EventAccumulator(str(tmp_path / "sweep" / job / "tensorboard"))
        board.Reload()
        content = board.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
        assert told["optimizer.lr"].string_value == ("0.001", "0.01")[int(job)]
        assert "data.root" not in told


READY = [(group, name) for group in ("sweep", "hparams_search") for name in options(group) if name != "none"]


@pytest.mark.parametrize(("group", "name"), READY)
def test_every_ready_sweep_names_options_that_exist(group, name):
    text = (conf_dir() / group / f"{name}.yaml").read_text()
    given = yaml.safe_load(text)
    for words in given.get("hydra", {}).get("sweeper", {}).get("params", {}).items():
        known = options(words[0])
        assert not known or set(str(words[1]).split(",")) <= set(known)
    assert {"/hydra/sweeper"} <= {key.removeprefix("override ") for line in given["defaults"] for key in line}
    assert f"python train.py -m {group}={name} " in text
