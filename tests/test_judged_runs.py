"""Finished runs that are judged."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss

import tl_lightning as tl
from tests.commands import tl as command
from tests.conftest import write_image
from tests.probe import PROBE, rows_of
from tests.texts import write_texts
from tests.zoo import WORDS
from tl_lightning.cli.verbs import act
from tl_lightning.data.images.transforms import eval_transform


def test_an_evaluation_is_written_and_agrees_with_the_predictions(run, shades):
    found = run.evaluate()
    paths = [shades / row["path"] for row in csv.DictReader(run.folder.splits_file.open()) if row["split"] == "val"]
    said, true = run.predict(paths), [p.parent.name for p in paths]
    assert found["val/accuracy"] == pytest.approx(accuracy_score(true, said.answers)) == run.metrics["val/accuracy"]
    interval = next(s for s in found.scores if s.name == "val/accuracy")
    assert interval.low < interval.value < interval.high
    kept = json.loads((run.path / "calibration.json").read_text())
    assert kept["temperature"] != 1
    raw = found["val/loss"]  # as training reports it
    assert (
        log_loss(true, said.probabilities.astype(float) / said.probabilities.sum(1, keepdims=True, dtype=float)) < raw
    )
    written = json.loads((run.path / "evaluation" / "val.json").read_text())
    assert written["scores"]["val/accuracy"]["value"] == found["val/accuracy"]
    assert np.sum(written["confusion"]) == len(paths) == found.samples
    wrong = {str(p.relative_to(shades)) for p, a in zip(paths, said.answers, strict=True) if a != p.parent.name}
    assert wrong and {row["sample"] for row in written["mistakes"]} == wrong
    page = (run.path / "evaluation" / "val.md").read_text()
    assert "| dark |" in page and found.mistakes[0]["sample"] in page
    assert "<table>" in found._repr_html_()


def test_thresholds_are_kept_and_obeyed_until_they_are_taken_back(run, shades):
    strict = run.evaluate(threshold="precision:0.9")
    assert min(row["precision"] for row in strict.findings.tables["classes"]) >= 0.9
    said = run.predict(shades)
    answers, likeliest = np.array(said.answers), np.array(said.outputs)[said.probabilities.argmax(1)]
    limits = dict(zip(said.outputs, strict.calibration.thresholds, strict=True))
    sure = said.probabilities.max(1) >= [limits[name] for name in likeliest]
    assert 0 < sure.sum() < len(sure)
    assert (answers == np.where(sure, likeliest, "")).all()
    assert run.evaluate().calibration.thresholds == strict.calibration.thresholds  # another evaluation keeps them
    with pytest.raises(tl.UserError, match=r"cannot be reached for class '\w+': the best is"):
        run.evaluate(threshold="recall:0.99999999")
    run.evaluate(threshold="none")
    assert "" not in run.predict(shades).answers


def test_groups_have_one_answer_each(run, shades):
    found = run.evaluate(data=shades, group=r"(patient\d+)_")
    said = run.predict(shades)
    by_patient = {}
    for source, _, numbers in said:
        by_patient.setdefault((Path(source).parent.name, Path(source).name[:9]), []).append(np.log(numbers))
    right = [said.outputs[np.mean(rows, 0).argmax()] == label for (label, _), rows in by_patient.items()]
    assert len(right) == 30
    assert found[f"{shades.name}/group/accuracy"] == pytest.approx(np.mean(right))
    with pytest.raises(tl.UserError, match=r"group '\d' holds different labels"):
        run.evaluate(group=r"patient\d+_(\d)")
    with pytest.raises(tl.UserError, match="finds nothing in"):
        run.evaluate(group=r"patient\d+_(0)|patient")
    with pytest.raises(tl.UserError, match="finds nothing in"):
        run.evaluate(group="video")
    with pytest.raises(tl.UserError, match="is no regular expression"):
        run.evaluate(group="(")


def test_other_folders(run, shades, tmp_path):
    (tmp_path / "new" / "dark").mkdir(parents=True)
    (tmp_path / "new" / "dark" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not whole")
    for i in range(3):
        write_image(tmp_path / "new" / "dark" / f"{i}.png", 40, i)
    found = run.evaluate(data=tmp_path / "new", out=tmp_path / "out")
    assert (found.samples, found["new/accuracy"]) == (3, 1.0)
    assert (tmp_path / "out" / "new.json").is_file()
    write_image(tmp_path / "new" / "pink" / "0.png", 40, 9)
    with pytest.raises(tl.UserError, match=r"holds pink, which .* does not know: it tells apart dark, grey, light"):
        run.evaluate(data=tmp_path / "new")
    with pytest.raises(tl.UserError, match="does not exist or is no folder"):
        run.evaluate(data=tmp_path / "nowhere")
    with pytest.raises(tl.UserError, match="chosen on the run's own validation samples"):
        run.evaluate(data=tmp_path / "new", threshold="f1")


def test_two_runs_are_compared_on_the_same_samples(run, shades, tmp_path, capsys):
    worse = tl.train(shades, run_dir=tmp_path / "worse", **{**PROBE, "backbone.image_size": 16})
    found = run.compare(worse)
    assert found.difference == pytest.approx(worse.evaluate()["val/accuracy"] - run.evaluate()["val/accuracy"])
    act("evaluate", [f"run=[{run.path},{worse.path}]"])
    assert str(found) in capsys.readouterr().out
    other = tl.train(shades, run_dir=tmp_path / "other", **PROBE, **{"data.split_seed": 1})
    with pytest.raises(tl.UserError, match="holds other images in each"):
        run.compare(other)


def test_texts_by_columns_of_their_table(model, tmp_path):
    pytest.importorskip("transformers")
    words = [("good fox", "awful dog")[i % 3 == 0] for i in range(60)]
    rows = [(f"{word} {WORDS[i % 20]} {WORDS[i // 20]}", "down" if i % 3 == 0 else "up", f"{i // 6} {word}")
            for i, word in enumerate(words)]  # fmt: skip
    file = write_texts(tmp_path / "texts.csv", rows, ("text", "label", "patient"))
    options = {"backbone": "text", "backbone.name": str(model), "backbone.length": 16, "strategy": "linear_probe",
             "data.batch_size": 4, "trainer": "cpu", "data.text": "text", "data.label": "label"}  # fmt: skip
    run = tl.train(file, run_dir=tmp_path / "run", **options)
    assert run.evaluate(group="patient")["val/group/accuracy"] == 1
    assert run.evaluate(data=file, group="patient")["texts/accuracy"] == 1
    with pytest.raises(tl.UserError, match=r"group=video: .* has no such column"):
        run.evaluate(group="video")
    said = run.write_predictions(file, tmp_path / "out.jsonl")
    assert [json.loads(line)["class"] for line in (tmp_path / "out.jsonl").open()] == [row[1] for row in rows]
    assert said.rows == 60
    (tmp_path / "lines.txt").write_text("good fox\n\nawful dog\n")
    run.write_predictions(tmp_path / "lines.txt")
    assert [row["class"] for row in csv.DictReader((run.path / "predictions.csv").open())] == ["up", "down"]


def test_thresholds_and_features_go_with_the_weights_that_they_were_made_of(shades, tmp_path):
    """A run that is gone on with has others; its predictions must not obey those of before."""
    words = {**PROBE, "strategy": "lp_ft", "callbacks": "default", "callbacks.progress": None}
    run = tl.train(shades, run_dir=tmp_path / "run", **words, **{"trainer.max_epochs": 1})
    run.evaluate(threshold="f1")
    run.write_predictions(shades / "dark", unknown=True)
    kept = (run.path / "calibration.json", run.path / "features.safetensors")
    assert all(path.is_file() for path in kept)
    assert command(f"resume={run.path}", "trainer.max_epochs=2", cwd=tmp_path).returncode == 0
    assert not any(path.exists() for path in kept)
    assert "" not in tl.load(run.path).predict(shades).answers


@pytest.mark.parametrize(("file", "text", "said"), [
    ("calibration.json", '{"format": 1, "temperature": "hot"}', "temperature=hot must be a number"),
    ("calibration.json", '{"format": 1, "temperature": -1}', "temperature=-1 must be a number"),
    ("calibration.json", '{"format": 1, "thresholds": 5}', "its thresholds are no list"),
    ("calibration.json", '{"format": 1, "thresholds": [0.5]}', "holds 1 thresholds, and there are 3 classes"),
    ("calibration.json", '{"format": 1, "thresholds": [0.5, 2, 0.5]}', "threshold=2 must be a number"),
    ("calibration.json", "[" * 5000, "calibration.json is damaged")])  # fmt: skip
def test_a_strangers_calibration(run, shades, tmp_path, file, text, said):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    (copy / file).write_text(text)
    with pytest.raises(tl.UserError, match=said):
        tl.load(copy).predict(shades / "dark")


def test_runs_without_samples_of_their_own_say_so(run, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    (copy / "splits.csv").unlink()
    for verb in ("evaluate", "report", "card"):
        with pytest.raises(
            tl.UserError, match="keeps no samples, as what add_class writes: judge it by those of another"
        ):
            getattr(tl.load(copy), verb)()
    with pytest.raises(tl.UserError, match="there are no test images to evaluate on: take split=train or val, or name"):
        run.evaluate("test")


def test_views(run, shades):
    """The mean over mirror images, and over corners, by numpy; of texts there are none."""
    transform = eval_transform(run.model.backbone.input)
    paths = [shades / row["path"] for row in rows_of(run.folder.splits_file) if row["split"] == "val"]
    arrays = [np.asarray(Image.open(path)) for path in paths]
    run.evaluate(threshold="none", tta="flip")
    one, two, both = (run.predict(x, tta=t).probabilities for x, t in
                      ((arrays, ""), ([a[:, ::-1] for a in arrays], ""), (arrays, "flip")))  # fmt: skip
    mean = np.exp((np.log(one) + np.log(two)) / 2)
    np.testing.assert_allclose(both, mean / mean.sum(1, keepdims=True), atol=1e-4)
    found = run.evaluate(tta="flip")
    labels = [path.parent.name for path in paths]
    assert found["val/accuracy"] == pytest.approx(
        accuracy_score(labels, np.array(("dark", "grey", "light"))[both.argmax(1)])
    )
    # and over the corners of both, by Pillow
    corners = []
    network = run.model.network
    for array in arrays[:4]:
        image = Image.fromarray(np.asarray(transform(Image.fromarray(array)).permute(1, 2, 0)))
        parts = [image.crop((x, y, x + 28, y + 28)) for x in (0, 4) for y in (0, 4)]
        views = [image, *(part.resize((32, 32), Image.Resampling.BILINEAR) for part in parts)]
        pixels = np.stack([a for v in views for a in (np.asarray(v), np.asarray(v)[:, ::-1])]).astype(np.float32)
        with torch.no_grad():
            logits = network(run.model.backbone.input.normalise(torch.tensor(pixels).permute(0, 3, 1, 2)))
        corners.append((logits.mean(0) / found.calibration.temperature).softmax(0).numpy())
    cropped = run.predict(arrays[:4], tta="crops").probabilities
    np.testing.assert_allclose(cropped, np.stack(corners), atol=0.02)  # Pillow rounds to whole levels
    assert abs(cropped - both[:4]).max() > 0.001
    with pytest.raises(tl.UserError, match="tta=turn is unknown"):
        run.predict(arrays, tta="turn")
