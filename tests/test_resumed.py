"""What a resumed run is promised: the weights of one never stopped, from the newest checkpoint that can be read."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.commands import QUICK, refused, tl
from tests.small import SMALL
from tl_lightning.config.compose import composed
from tl_lightning.config.settings import settings_of
from tl_lightning.data.sampling import drawing
from tl_lightning.errors import UserError
from tl_lightning.files import atomically
from tl_lightning.jobs.train import train
from tl_lightning.reports.csv_logger import ContinuedCSVLogger
from tl_lightning.runs.folder import RunFolder

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import resume_matrix


@pytest.mark.parametrize(
    ("strategy", "cache", "workers", "average"),
    [("finetune_all", "off", 2, "ema"), ("finetune_top", "3", 1, "default"), ("lp_ft", "auto", 1, "default")],
)
def test_stopped_after_any_epoch_moved_and_resumed_the_weights_are_the_same(
    strategy, cache, workers, average, tmp_path
):
    """Some of benchmarks/resume_matrix.py's configurations, with loader processes as users have them."""
    root = resume_matrix.photos(tmp_path / "photos")
    said = resume_matrix.words(root, strategy, cache, workers, average)
    found = dict(resume_matrix.resumed(tmp_path, said))
    assert found == {1: [], 2: [], 3: [], 4: []}


def test_a_draw_depends_on_its_seed_alone_whoever_draws():
    import random

    import numpy as np

    def drawn(seed):
        with drawing(seed):
            return torch.rand(1).item(), np.random.rand(), random.random()

    random.seed(1)
    np.random.seed(1)
    first = drawn(7)
    after = random.random(), np.random.rand()
    assert drawn(7) == first != drawn(8)
    random.seed(1)
    np.random.seed(1)
    assert (random.random(), np.random.rand()) == after  # what is drawn outside does not notice


def test_a_damaged_last_checkpoint_is_answered_by_the_one_before(configure, tmp_path, caplog):
    words = [*SMALL, "strategy=feature_extraction", "+callbacks.last.apart=0", "callbacks.early_stopping=null"]
    train(configure(*words, "trainer.max_epochs=3"))
    run = RunFolder(tmp_path / "run")
    assert [int(torch.load(p, weights_only=True)["epoch"]) for p in run.checkpoints] == [2, 1]
    run.last_checkpoint.write_bytes(run.last_checkpoint.read_bytes()[:1000])
    caplog.set_level("INFO")
    more = "trainer.max_epochs=4"
    metrics = train(configure(*words, more, f"resume={run.path}"), [more])
    assert "last.ckpt cannot be read: previous.ckpt, the one before, is taken" in caplog.text
    assert "after 2 epochs" in caplog.text
    assert metrics["epochs"] == 4
    with run.history_file.open() as file:
        assert [r["epoch"] for r in csv.DictReader(file) if r["val/accuracy"]] == ["0", "1", "2", "3"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_text("before")

    def fails(draft):
        draft.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*a.ckpt'"):
        atomically(path, fails)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
    assert path.read_text() == "before"


def test_checkpoints_do_not_pass_through_the_temporary_folder(configure, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    train(configure(*SMALL, "strategy=feature_extraction", "logger=none"))
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_metrics_csv_is_appended_to_and_new_columns_make_a_new_file(tmp_path, monkeypatch):
    logger = ContinuedCSVLogger(str(tmp_path))
    logger.log_metrics({"a": 1.0, "epoch": 0}, 1)
    inode = logger.path.stat().st_ino
    logger.log_metrics({"a": 2.0, "epoch": 1}, 2)
    assert logger.path.stat().st_ino == inode
    again = ContinuedCSVLogger(str(tmp_path))  # as a resumed run begins
    again.log_metrics({"b": 3.0, "epoch": 2}, 3)
    with again.path.open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["epoch"], r["a"], r["b"]) for r in rows] == [("0", "1.0", ""), ("1", "2.0", ""), ("2", "", "3.0")]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_run_whose_weights_are_gone_goes_on_from_its_checkpoint(configure, tmp_path, caplog):
    from safetensors.torch import save_file
    from torchvision.models import mobilenet_v2

    weights = tmp_path / "w.safetensors"
    save_file(mobilenet_v2().state_dict(), weights)
    words = ["backbone=mobilenet_v2", f"backbone.weights={weights}", "backbone.image_size=32", "strategy=finetune_top"]
    train(configure(*words, "callbacks.early_stopping=null"))
    weights.rename(tmp_path / "elsewhere.safetensors")
    for run in ("gone", "told"):
        shutil.copytree(tmp_path / "run", tmp_path / run)
    more, told = "trainer.max_epochs=2", f"backbone.weights={tmp_path}/elsewhere.safetensors"
    gone = train(configure(*words, more, f"resume={tmp_path}/gone"), [more])
    assert "goes on with the weights in its checkpoint" in caplog.text
    there = train(configure(*words, more, told, f"resume={tmp_path}/told"), [more, told])
    assert gone["val/loss"] == there["val/loss"]


def test_early_stopping_says_so_and_is_not_run_into_again(photos, tmp_path):
    quick = [*QUICK[:-1], f"data.root={photos}", "strategy=feature_extraction", "optimizer.lr=1e-9"]
    first = tl(*quick, "trainer.max_epochs=9", "callbacks.early_stopping.patience=2", "hydra.run.dir=run", cwd=tmp_path)
    assert "stopped   after 3 epochs by early stopping: no better val/accuracy for 2 epochs" in first.stdout
    refused(tl("resume=run", "trainer.max_epochs=12", cwd=tmp_path), "callbacks.early_stopping.patience above 2")
    on = tl("resume=run", "callbacks.early_stopping.patience=4", cwd=tmp_path)
    assert on.returncode == 0, on.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 5


def test_two_runs_that_begin_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    from tl_lightning.config.compose import _run_folder

    stem = str(tmp_path / "outputs" / "10-00-00")
    assert _run_folder(None, stem) == stem
    _run_folder.cache_clear()  # another process
    assert _run_folder(None, stem) == f"{stem}-2"
    assert Path(f"{stem}-2").is_dir()
    assert _run_folder("runs/a", stem) == "runs/a"


def test_resuming_a_run_that_is_in_use_changes_nothing_of_it(configure, tmp_path):
    train(configure(*SMALL, "strategy=feature_extraction", "trainer.max_epochs=2"))
    run, more = RunFolder(tmp_path / "run"), "trainer.max_epochs=3"
    with run.history_file.open("a") as file:
        file.write("9,0.")  # a row that the process which uses it has not finished
    before = run.history_file.read_bytes()
    with run.claimed(resuming=True), pytest.raises(UserError, match="another process is training into"):
        train(configure(*SMALL, more, f"resume={run.path}"), [more])
    assert run.history_file.read_bytes() == before


def test_a_folder_in_use_and_one_that_holds_a_run_are_refused(tmp_path):
    run = RunFolder(tmp_path)
    with (
        run.claimed(),
        pytest.raises(UserError, match="another process is training into"),
        RunFolder(tmp_path).claimed(),
    ):
        pass
    run.config_file.write_text("format: 1")
    with pytest.raises(UserError, match="already holds a run"), run.claimed():
        pass
    with run.claimed(resuming=True):
        pass
    assert settings_of(composed([], str(tmp_path))).run_dir == tmp_path
