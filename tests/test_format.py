"""What a run says stays what it says: the schema of model.json, and a run that an earlier release has written."""

import json
import shutil
from pathlib import Path

import pytest

import tl_lightning as tl
from tests.probe import PROBE

REPO = Path(__file__).parents[1]
OLD = REPO / "tests" / "runs" / "format1"


@pytest.fixture
def validate():
    schemas = pytest.importorskip("jsonschema")
    schema = json.loads((REPO / "docs" / "model.schema.json").read_text())
    schemas.Draft202012Validator.check_schema(schema)
    return lambda values: [error.message for error in schemas.Draft202012Validator(schema).iter_errors(values)]


def test_runs_are_as_the_schema_says(validate, photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    facts = json.loads((run.path / "model.json").read_text())
    assert validate(facts) == []
    described = json.loads((REPO / "docs" / "model.schema.json").read_text())["properties"]
    assert set(facts) == set(described)  # nothing is written that the schema does not describe
    assert validate(json.loads((OLD / "model.json").read_text())) == []
    assert validate({**facts, "format": 2}) and validate({k: v for k, v in facts.items() if k != "task"})


def test_a_run_of_an_earlier_release_loads(tmp_path):
    """Written by release 0.2.0, before weights' licences were kept."""
    pytest.importorskip("transformers")
    run = tl.load(shutil.copytree(OLD, tmp_path / "run"))
    found = run.predict(["good fox", "awful dog"])
    assert found.answers == ["good", "awful"]
    assert found.probabilities[:, 0].tolist() == pytest.approx([0.22854148, 0.71976936], abs=1e-4)
    assert run.metrics["val/accuracy"] == 1.0
