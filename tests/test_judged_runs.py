"""Finished runs that are judged, and what they say of new samples, as files."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.neighbors import NearestNeighbors

import tl_lightning as tl
from tests.commands import tl as command
from tests.conftest import write_image
from tests.texts import write_texts
from tests.zoo import WORDS
from tl_lightning.cli.verbs import act
from tl_lightning.inputs import ImageInput
from tl_lightning.jobs import prediction_file

PROBE = {"backbone": "mobilenet_v2", "backbone.weights": "formula", "backbone.image_size": 32, "data.batch_size": 4,
         "data.workers": 0, "strategy": "linear_probe", "callbacks": "none", "logger": "none"}  # fmt: skip


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    """Three noisy classes that cannot be told apart without mistakes, several images of each of 30 patients."""
    root, random = tmp_path_factory.mktemp("shades"), np.random.default_rng(0)
    for k, name in enumerate(("dark", "grey", "light")):
        for patient in range(10):
            level = 90 + 30 * k + random.normal() * 18
            for i in range(5):
                write_image(root / name / f"patient{k}{patient}_{i}.png", int(np.clip(level, 20, 235)), patient * 5 + i)
    return root


@pytest.fixture(scope="module")
def run(shades, tmp_path_factory):
    return tl.train(shades, run_dir=tmp_path_factory.mktemp("runs") / "run", **PROBE)


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


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_for_every_file_also_for_those_that_cannot_be_read(run, shades, tmp_path):
    folder = shutil.copytree(shades / "dark", tmp_path / "new")
    (folder / "0.png").write_bytes(b"")
    (folder / "=1+1.png").write_bytes(b"not an image")
    found = run.write_predictions(folder, tmp_path / "out.csv", top=3)
    rows = rows_of(tmp_path / "out.csv")
    assert (found.rows, found.errors, len(rows)) == (52, 2, 52)
    assert [row["image"] for row in rows] == sorted(str(p) for p in folder.iterdir())
    assert rows[0]["error"].endswith("is empty: 0 bytes") and rows[0]["class"] == ""
    read = [row for row in rows if not row["error"]]
    said = run.predict([row["image"] for row in read])
    assert [row["class"] for row in read] == said.answers
    np.testing.assert_allclose([float(row["probability"]) for row in read], said.probabilities.max(1), atol=1e-5)
    ordered = np.sort(said.probabilities, 1)
    np.testing.assert_allclose([float(row["margin"]) for row in read], ordered[:, -1] - ordered[:, -2], atol=1e-5)
    assert all(row["class_3"] == said.outputs[k] for row, k in zip(read, said.probabilities.argmin(1), strict=True))
    assert list(tmp_path.glob("out.csv.*")) == []


def test_sources_by_pattern_list_and_standard_input(run, shades, tmp_path, monkeypatch):
    listed = tmp_path / "list.txt"
    listed.write_text("a.png\n\ngone.png\n")
    shutil.copy(shades / "dark" / "patient00_0.png", tmp_path / "a.png")
    run.write_predictions(listed, tmp_path / "out.csv")
    rows = rows_of(tmp_path / "out.csv")
    assert [(Path(r["image"]).name, r["class"]) for r in rows] == [("a.png", "dark"), ("gone.png", "")]
    assert rows[1]["error"] == f"{tmp_path}/gone.png does not exist"
    found = run.predict([tmp_path / "a.png", tmp_path / "gone.png"])
    assert found.answers == ["dark", None]
    assert found.errors == {1: f"{tmp_path}/gone.png does not exist"}
    assert run.write_predictions(f"{shades}/*/patient00_*.png", tmp_path / "out.csv").rows == 5
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{tmp_path}/a.png\n"))
    assert run.write_predictions("-", tmp_path / "out.jsonl").rows == 1
    for source, said in ((f"{tmp_path}/*.tif", "matches no files"), (tmp_path / "gone", "does not exist"),
                         ([tmp_path / "gone.png"], "gone.png does not exist")):  # fmt: skip
        with pytest.raises(tl.UserError, match=said):
            run.write_predictions(source, tmp_path / "none.csv")
    with pytest.raises(tl.UserError, match=r"the name must end in \.csv, \.jsonl, \.parquet"):
        run.write_predictions(shades, tmp_path / "none.xlsx")
    assert list(tmp_path.glob("none*")) == []


def test_a_killed_call_goes_on_where_it_was(run, shades, tmp_path, monkeypatch):
    """Killed after two batches and half a row: no image is answered twice, and the file is as if nothing had been."""
    whole = run.write_predictions(shades, tmp_path / "whole.csv")
    answered, seen = prediction_file.answered, []

    def dies(model, samples, engine, tta):
        for number, batch in enumerate(answered(model, samples, engine, tta)):
            if number == 2:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(prediction_file, "answered", dies)
    with pytest.raises(KeyboardInterrupt):
        run.write_predictions(shades, tmp_path / "out.csv")
    (kept,) = tmp_path.glob("out.csv.*")
    with kept.open("a") as file:
        file.write('{"image": "half a r')

    def notes(model, samples, engine, tta):
        seen.extend(samples)
        return answered(model, samples, engine, tta)

    monkeypatch.setattr(prediction_file, "answered", notes)
    run.write_predictions(shades, tmp_path / "out.csv")
    assert len(seen) == whole.rows - 2 * ImageInput.at_once
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert list(tmp_path.glob("out.csv.*")) == []


def test_what_the_run_does_not_know(run, shades, tmp_path):
    """Stripes, of which there is none among grey images; distances against scikit-learn's neighbours."""
    for i in range(8):
        stripes = np.zeros((36, 40, 3), np.uint8)
        stripes[:, :: i + 2] = 255
        (tmp_path / "stripes").mkdir(exist_ok=True)
        Image.fromarray(stripes).save(tmp_path / "stripes" / f"{i}.png")
    source = [tmp_path / "stripes", shades]
    run.write_predictions(source, tmp_path / "out.csv", unknown=True, embeddings=True)
    rows, features = rows_of(tmp_path / "out.csv"), np.load(tmp_path / "out.npy")
    assert features.shape == (158, 1280)
    unknown = [row["unknown"] == "True" for row in rows]
    assert sum(unknown[:8]) == 8
    assert np.mean(unknown[8:]) < 0.15
    assert roc_auc_score([True] * 8 + [False] * 150, [float(row["distance"]) for row in rows]) > 0.95
    train = {str(shades / row["path"]) for row in rows_of(run.folder.splits_file) if row["split"] == "train"}
    known = features[[row["image"] in train for row in rows]]
    near, _ = NearestNeighbors(n_neighbors=5, metric="cosine").fit(known).kneighbors(features[:8])
    np.testing.assert_allclose([float(row["distance"]) for row in rows[:8]], near.mean(1), atol=2e-3)
    run.write_predictions(source, tmp_path / "ranked.jsonl", rank="label_next")
    first = [json.loads(line) for line in (tmp_path / "ranked.jsonl").open()]
    assert len(first) == 158
    for key, sign in (("margin", 1), ("distance", -1)):  # the ten of each that tell most are among the first twenty
        most = sorted(sign * row[key] for row in first)[:10]
        assert most == sorted(sign * row[key] for row in first[:20])[:10]
    with pytest.raises(tl.UserError, match="rank=first is unknown"):
        run.write_predictions(source, tmp_path / "out.csv", rank="first")
    (run.path / "features.safetensors").write_bytes(b"no")
    with pytest.raises(tl.UserError, match=r"is damaged .* remove it"):
        run.write_predictions(source, tmp_path / "out.csv", unknown=True)
    (run.path / "features.safetensors").unlink()


def test_parquet(run, shades, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    run.write_predictions(shades / "dark", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 50


def test_what_answers_come_from(run, shades, tmp_path, monkeypatch):
    """A picture for every image that could be read, also after a kill; the row names it."""
    folder = shutil.copytree(shades / "dark", tmp_path / "new")
    (folder / "0.png").write_bytes(b"")
    run.write_predictions(folder, tmp_path / "out.csv", explain=True)
    rows = rows_of(tmp_path / "out.csv")
    assert [row["explained"] for row in rows] == ["", *(f"{i:06}.png" for i in range(1, 51))]
    pictures = sorted((tmp_path / "out").iterdir())
    assert [p.name for p in pictures] == [row["explained"] for row in rows[1:]]
    assert Image.open(pictures[0]).size == (224, 224)


def test_which_words_an_answer_comes_from(model, tmp_path):
    pytest.importorskip("transformers")
    words = [("good", "awful")[i % 2] for i in range(40)]
    rows = [(f"{WORDS[i % 20]} {word} {WORDS[i // 20]}", word) for i, word in enumerate(words)]
    options = {"backbone": "text", "backbone.name": str(model), "backbone.length": 16, "strategy": "finetune_all",
               "data.batch_size": 4, "trainer": "cpu", "trainer.max_epochs": 8, "optimizer.lr": 0.01}  # fmt: skip
    run = tl.train(write_texts(tmp_path / "texts.csv", rows), run_dir=tmp_path / "run", **options)
    assert run.metrics["val/accuracy"] == 1
    run.write_predictions([text for text, _ in rows], tmp_path / "out.jsonl", explain=True)
    first = [json.loads(line)["explained"].split()[0] for line in (tmp_path / "out.jsonl").open()]
    assert np.mean([said.partition(":")[0] == word for said, word in zip(first, words, strict=True)]) > 0.8


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


def test_a_strangers_features_and_links(run, shades, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    save_file({"features": torch.zeros(3, 7), "targets": torch.zeros(3), "val_features": torch.zeros(3, 7),
               "val_targets": torch.zeros(3)}, copy / "features.safetensors")  # fmt: skip
    with pytest.raises(tl.UserError, match=r"features.safetensors is damaged \(features \(3, 7\)\)"):
        tl.load(copy).write_predictions(shades / "dark", unknown=True)
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(copy / "evaluation", ignore_errors=True)
    (copy / "evaluation").symlink_to(tmp_path / "elsewhere")
    for act_on in (lambda r: r.evaluate(), lambda r: r.report(), lambda r: r.write_predictions(shades / "dark")):
        with pytest.raises(tl.UserError, match="evaluation is a link that leads out of the run's folder"):
            act_on(tl.load(copy))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_mirror_images(run, shades):
    """The mean of two outputs, by numpy; of texts there are none."""
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
    with pytest.raises(tl.UserError, match="tta=turn is unknown"):
        run.predict(arrays, tta="turn")
