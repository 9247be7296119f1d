"""What wandb and MLflow hold of a run, by their own readers."""

import json

import pytest

from tests.commands import QUICK, refused, tl


def words(photos):
    return [*QUICK, f"data.root={photos}", "strategy=feature_extraction"]


def test_wandb_offline_holds_choices_scores_pictures_and_the_model(photos, tmp_path):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    result = tl("-m", *words(photos), "logger=wandb", "seed=0,1", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    groups = set()
    for number in (0, 1):
        (file,) = (tmp_path / "sweep" / str(number)).glob("wandb/offline-run-*/run-*.wandb")
        store, records = DataStore(), []
        store.open_for_scan(str(file))
        while (data := store.scan_data()) is not None:
            record = Record()
            record.ParseFromString(data)
            records.append(record)
        config = {item.key: json.loads(item.value_json) for r in records for item in r.run.config.update}
        config |= {item.key: json.loads(item.value_json) for r in records for item in r.config.update}
        assert config["seed"] == number and config["trainer.max_epochs"] == 1
        logged = {item.key or "/".join(item.nested_key) for r in records for item in r.history.item}
        assert {"val/accuracy", "val/confusion", "phase"} <= logged
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
