"""What finished runs say of new samples, as files."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import tl_lightning as tl
from tests.probe import rows_of
from tests.texts import write_texts
from tests.zoo import WORDS
from tl_lightning.inputs import ImageInput
from tl_lightning.jobs import prediction_file


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


def test_folders_that_are_linked_count_once(run, shades, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "dark").symlink_to(shades / "dark")
    (tmp_path / "new" / "dark_again").symlink_to(shades / "dark")
    (tmp_path / "new" / "round").symlink_to(tmp_path / "new")
    (tmp_path / "new" / ".hidden").symlink_to(shades / "light")
    assert len(run.predict(tmp_path / "new")) == 50


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
    assert [row["explained"] for row in rows] == ["", *(f"out/{i:06}.png" for i in range(1, 51))]
    pictures = sorted((tmp_path / "out").iterdir())
    assert [f"out/{p.name}" for p in pictures] == [row["explained"] for row in rows[1:]]
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
