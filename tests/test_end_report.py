"""What a finished training leaves to look at: the report, its figures in TensorBoard, two runs side by side."""

import csv
import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision.models import mobilenet_v2

import tl_lightning as tl
from tests.test_report_page import Page
from tests.texts import write_texts
from tests.zoo import WORDS as WORDS_OF
from tl_lightning.cli.verbs import act
from tl_lightning.errors import UserError
from tl_lightning.evaluation.calibration import Calibration

WORDS = {"backbone": "mobilenet_v2", "backbone.image_size": 32, "data.batch_size": 16, "data.workers": 0,
         "callbacks.progress": None, "trainer": "cpu", "trainer.max_epochs": 2}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights that the package takes for those of photographs."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.save(mobilenet_v2().state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def reported(shades, weights, tmp_path_factory):
    """A run that ended with its report."""
    where = tmp_path_factory.mktemp("runs") / "reported"
    return tl.train(
        shades, run_dir=where, strategy="finetune_all", report=True, **{"backbone.weights": weights}, **WORDS
    )


def test_a_training_ends_with_its_report(reported):
    page = Page((reported.path / "report.html").read_text())
    assert page.open == []
    for said in ("Training", "Worst mistakes", "Typical ones", "What it still knows", "still says the same"):
        assert said in page.text
    assert f"{reported.metrics['val/accuracy']:.3f}" in page.text
    assert "memory at most" in page.text and reported.metrics["memory/host"] > 1e8


def test_it_says_what_an_evaluation_says(reported):
    written = json.loads((reported.path / "evaluation" / "val.json").read_text())
    found = reported.evaluate()
    assert written["scores"]["val/accuracy"]["value"] == pytest.approx(reported.metrics["val/accuracy"])
    for name, score in written["scores"].items():
        assert score["value"] == pytest.approx(found[name], abs=2e-3), name
    assert written["calibration"]["temperature"] == pytest.approx(found.calibration.temperature, rel=0.02)


def test_the_same_in_tensorboard(reported):
    board = EventAccumulator(str(reported.path / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    board.Reload()
    tags = board.Tags()
    assert {"val/reliability", "val/classes", "val/confusion"} <= set(tags["images"])
    assert {"val/dark/pr_curves", "val/grey/pr_curves", "val/light/pr_curves"} <= {
        t if t.endswith("pr_curves") else f"{t}/pr_curves" for t in tags["tensors"]
    }
    layout = board.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0].decode("utf-8", "replace")
    assert "rate/.*" in layout and "val/loss" in layout
    (folder,) = (reported.path / "tensorboard").glob("00000/*")
    with (folder / "tensors.tsv").open() as file:
        points = list(csv.reader(file, delimiter="\t"))
    labels = (folder / "metadata.tsv").read_text().split()
    assert len(points) == len(labels) == 30 and set(labels) == {"dark", "grey", "light"}
    assert len(points[0]) == 1280 and (folder / "sprite.png").is_file()
    events = list((reported.path / "tensorboard").glob("events*"))
    assert len(events) == 1


def test_features_in_the_projector_are_the_networks(reported, shades):
    (folder,) = (reported.path / "tensorboard").glob("00000/*")
    first = [float(value) for value in (folder / "tensors.tsv").read_text().split("\n")[0].split("\t")]
    items = [row for row in csv.DictReader((reported.path / "splits.csv").open()) if row["split"] == "val"]
    from tl_lightning.jobs.predict import features_of

    features, _ = features_of(reported.model, [str(shades / items[0]["path"])])
    assert first == pytest.approx(features[0].tolist(), abs=1e-3)


def test_a_report_that_cannot_be_made_ends_no_run(photos, tmp_path, monkeypatch, caplog):
    def full(*given, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tl_lightning.jobs.end_report.report", full)
    options = {**WORDS, "backbone.weights": "formula"}
    run = tl.train(photos, run_dir=tmp_path / "run", strategy="linear_probe", report=True, **options)
    assert run.metrics["val/accuracy"] > 0
    assert "No space left on device" in caplog.text and f"tl report run={run.path}" in caplog.text


def test_words_that_cannot_be_meant(photos, tmp_path):
    with pytest.raises(UserError, match="report=often must be true or false"):
        tl.train(photos, run_dir=tmp_path / "run", report="often", **WORDS)


def test_two_runs_side_by_side(reported, shades, tmp_path, capsys):
    other = tl.train(shades, run_dir=tmp_path / "other", strategy="linear_probe",
                     **{**WORDS, "backbone.weights": "formula"})  # fmt: skip
    act("report", [f"run=[{reported.path},{other.path}]"])
    path = reported.path / "report_with_other.html"
    assert capsys.readouterr().out.strip().endswith(str(path))
    page = Page(path.read_text())
    assert page.open == []
    assert str(reported.compare(other)) in page.text
    for said in ("LinearProbe", "FinetuneAll", "F1 of each class", "wrong in both", "wrong in A alone"):
        assert said in page.text
    assert "save_dir" not in page.text  # where they lie is no difference
    wrong = [set(run.evaluate().findings.mistakes) for run in (reported, other)]
    assert f"{len(wrong[0] - wrong[1])} wrong in A alone" in page.text
    assert f"{len(wrong[0] & wrong[1])} wrong in both" in page.text


def test_values_are_neither_right_nor_wrong(model, tmp_path):
    pytest.importorskip("transformers")
    rows = [(f"{WORDS_OF[i % 20]} {i}", 0.5 + i % 7) for i in range(40)]
    file = write_texts(tmp_path / "texts.csv", rows, ("text", "score"))
    options = {"backbone": "text", "backbone.name": str(model), "backbone.length": 16, "data.batch_size": 4,
               "trainer": "cpu", "data.text": "text", "data.label": "score"}  # fmt: skip
    options["strategy"] = "linear_probe"
    a, b = (tl.train(file, run_dir=tmp_path / f"lr=0.{i},seed={i}", **options) for i in (1, 2))
    act("report", [f"run={a.path}"])  # a name that holds a comma, as those of a sweep's jobs may
    text = Page(a.report_with(b).read_text()).text
    assert "Which is better" in text and "wrong in" not in text


def test_answers_obey_the_thresholds(reported, shades, tmp_path, monkeypatch):
    other = tl.train(shades, run_dir=tmp_path / "other", strategy="linear_probe",
                     **{**WORDS, "backbone.weights": "formula"})  # fmt: skip
    other.folder.write_calibration(Calibration(1.0, (0.9, 0.9, 0.9)))
    shown = []
    monkeypatch.setattr("tl_lightning.reports.report_two.answers", lambda rows, wrong: shown.extend(rows) or ())
    other.report_with(reported)
    said = other.predict([shades / row["sample"] for row in shown])
    assert [row["A"] for row in shown] == said.answers
    assert 0 < said.answers.count("") < len(shown)


def test_runs_of_other_classes_do_not_stand_side_by_side(reported, photos, tmp_path):
    other = tl.train(photos, run_dir=tmp_path / "other", strategy="linear_probe",
                     **{**WORDS, "backbone.weights": "formula"})  # fmt: skip
    with pytest.raises(UserError, match="cannot stand side by side"):
        reported.report_with(other)
