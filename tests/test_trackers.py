"""What wandb and MLflow hold of a run, by their own readers."""

import json

import pytest

from tests.commands import QUICK, refused, tl
from tl_lightning.reports import writers
from tl_lightning.reports.trackers import WandbWriter


def wandb_records(data):
    """The messages of a .wandb file: a log of LevelDB's (blocks of 32 kB; checksum, length and kind of each part).

    https://github.com/google/leveldb/blob/main/doc/log_format.md; the messages are wandb's own.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    place, whole = 7, b""  # past the file's own header
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # what is left of a block holds no part
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def words(photos):
    return [*QUICK, f"data.root={photos}", "strategy=feature_extraction"]


def test_wandb_offline_holds_choices_scores_pictures_and_the_model(photos, tmp_path):
    pytest.importorskip("wandb")
    result = tl("-m", *words(photos), "logger=wandb", "seed=0,1", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    groups = set()
    for number in (0, 1):
        (file,) = (tmp_path / "sweep" / str(number)).glob("wandb/offline-run-*/run-*.wandb")
        records = list(wandb_records(file.read_bytes()))
        config = {item.key: json.loads(item.value_json) for r in records for item in r.run.config.update}
        config |= {item.key: json.loads(item.value_json) for r in records for item in r.config.update}
        assert config["seed"] == number and config["trainer.max_epochs"] == 1
        logged = {item.key or "/".join(item.nested_key) for r in records for item in r.history.item}
        for name in ("val/accuracy", "val/confusion", "phase"):  # of media the file's name, size and so on
            assert any(key == name or key.startswith(f"{name}/") for key in logged)
        metrics = json.loads((tmp_path / "sweep" / str(number) / "metrics.json").read_text())
        summary = {item.key: json.loads(item.value_json) for r in records for item in r.summary.update}
        assert summary["score/val_accuracy"] == pytest.approx(metrics["val/accuracy"])
        groups |= {r.run.run_group for r in records if r.run.run_group}
        kept = [r.request.log_artifact.artifact for r in records] + [r.artifact for r in records]
        assert {"model.safetensors"} <= {entry.path for artifact in kept for entry in artifact.manifest.contents}
        assert any((file.parent / "files").rglob("*.png"))
    (group,) = groups
    assert group.endswith(":sweep")


def test_mlflow_has_one_parent_for_a_sweep(photos, tmp_path):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    result = tl("-m", *words(photos), "logger=mlflow", "seed=0,1", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("tl_lightning").experiment_id])
    (parent,) = (run for run in found if "mlflow.parentRunId" not in run.data.tags)
    jobs = [run for run in found if run is not parent]
    assert len(jobs) == 2 and {run.data.tags["mlflow.parentRunId"] for run in jobs} == {parent.info.run_id}
    for run in jobs:
        assert run.info.status == "FINISHED" and run.data.params["strategy._target_"].endswith("FeatureExtraction")
        metrics = json.loads((tmp_path / "sweep" / run.data.params["seed"] / "metrics.json").read_text())
        assert run.data.metrics["score/val_accuracy"] == pytest.approx(metrics["val/accuracy"])
        files = {f.path for f in client.list_artifacts(run.info.run_id, "model")}
        assert "model/model.safetensors" in files
        assert client.list_artifacts(run.info.run_id, "figures")


def test_several_loggers_at_once_and_one_that_is_not_there(photos, tmp_path):
    result = tl(*words(photos), "logger=[csv,tensorboard]", "hydra.run.dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "metrics.csv").is_file() and (tmp_path / "run" / "tensorboard").is_dir()
    try:
        import mlflow  # noqa: F401
    except ImportError:
        refused(tl(*words(photos), "logger=mlflow", cwd=tmp_path), "logger=mlflow needs MLflow: pip install mlflow")


def test_a_resumed_run_goes_to_a_tracker_if_the_command_says_so(photos, tmp_path):
    """A folder that may come from a stranger does not decide what is sent where."""
    pytest.importorskip("wandb")
    assert tl(*words(photos), "logger=wandb", "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    run = tmp_path / "run"
    result = tl("resume=run", "trainer.max_epochs=2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "wandb: left out" in result.stdout and len(list(run.glob("wandb/offline-run-*"))) == 1
    again = tl("resume=run", "trainer.max_epochs=3", "logger=wandb", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(list(run.glob("wandb/offline-run-*"))) == 2


def test_what_fails_is_over_for_a_tracker(monkeypatch):
    ended = []

    class Run:
        def finish(self, exit_code):
            ended.append(exit_code)

    class Logger:
        experiment = Run()

    monkeypatch.setattr(writers, "WRITERS", {Logger: WandbWriter})
    with pytest.raises(RuntimeError, match="out of memory"), writers.aborting([Logger()]):
        raise RuntimeError("out of memory")
    assert ended == [1]
