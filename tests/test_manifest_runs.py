"""Runs on images that a table names."""

import logging

import numpy as np
import pytest
from PIL import Image

import tl_lightning as tl
from tests.commands import QUICK, refused
from tests.commands import tl as command
from tests.image_tables import rows_of, write

PROBE = {"strategy": "linear_probe", "backbone.image_size": 32, "trainer": "cpu"}


def test_a_run_on_a_table_is_resumed_evaluated_and_repeated(images, tmp_path):
    table = write(tmp_path / "t.csv", [("path", "label", "sample_weight"), *((*r, 1) for r in rows_of()[1:])])
    run = tl.train(table, run_dir=tmp_path / "run", **{"data.root": images, **PROBE})
    assert run.metrics["val/accuracy"] == 1.0
    opened = tl.load(tmp_path / "run")
    assert opened.evaluate()["val/accuracy"] == 1.0
    assert opened.evaluate(data=write(images / "all.csv", rows_of()))["all/accuracy"] > 0.9
    anywhere = write(tmp_path / "far.csv", [("path", "label"), *((images / p, label) for p, label in rows_of()[1:])])
    assert tl.train(anywhere, run_dir=tmp_path / "far", **PROBE).evaluate()["val/accuracy"] == 1.0
    assert tl.load(tmp_path / "far").evaluate()["val/accuracy"] == 1.0
    again = tl.train(table, run_dir=tmp_path / "again",
                     **{"data.root": images, "data.splits": run.path / "splits.csv", **PROBE})  # fmt: skip
    assert again.metrics["val/loss"] == run.metrics["val/loss"]


def test_a_table_of_names_and_classes_as_splits(images, tmp_path):
    for columns in (("image_id", "label"), ("path", "class")):
        table = write(tmp_path / "t.csv", rows_of(columns))
        run = tl.train(images, run_dir=tmp_path / columns[0], **{"data.splits": table, **PROBE})
        assert run.metrics["val/accuracy"] == tl.load(run.path).evaluate()["val/accuracy"] == 1.0
    values = [("path", "label", "sample_weight"), *((p, int(p[:2]) / 7, 1) for p, _ in rows_of()[1:])]
    run = tl.train(images, run_dir=tmp_path / "values", **{"data.splits": write(tmp_path / "v.csv", values), **PROBE})
    assert tl.load(run.path).evaluate()["val/rmse"] == pytest.approx(run.metrics["val/rmse"], rel=1e-4)


def test_weights_reach_the_solved_head_and_the_sampler(images, tmp_path):
    """Samples of no weight count as if they were not there."""
    half = [r for i, r in enumerate(rows_of()[1:]) if i % 3]
    splits = {f"{i:02d}.png": "val" if i % 6 == 1 else "train" for i in range(24)}
    weighted = [(*r, splits[r[0]], int(r in half)) for r in rows_of()[1:]]
    alone = [(*r, splits[r[0]]) for r in half]
    runs = []
    for name, rows in (("w", [("path", "label", "split", "sample_weight"), *weighted]),
                       ("h", [("path", "label", "split"), *alone])):  # fmt: skip
        table = write(images / f"{name}.csv", rows)
        runs.append(tl.train(table, run_dir=tmp_path / name, **PROBE))
    assert runs[0].metrics["val/loss"] != runs[1].metrics["val/loss"]  # the penalty is chosen in other folds
    data = tl.data.manifest(runs[0].model.backbone.input, file=images / "w.csv", batch_size=4)
    drawn = {i for epoch in range(20) for i, _ in _epoch(data.order(), epoch)}
    used = data.samples.used("train")
    assert {splits[used[i].path] for i in drawn} == {"train"}
    assert drawn == {i for i, item in enumerate(used) if int(item.path[:2]) % 3}


def _epoch(order, epoch):
    order.set_epoch(epoch)
    return list(order)


def test_one_line_on_the_command_line(images, tmp_path):
    table = write(tmp_path / "t.csv", rows_of())
    refused(command(f"data.file={table}", *QUICK, cwd=tmp_path), "none of the 24 images is there")
    several = command(f"data.file={table}", f"data.root={images}", "task=multilabel", *QUICK, cwd=tmp_path)
    refused(several, "data.separator")


def test_several_classes_of_images_by_auto(tmp_path, caplog):
    """Bright or dark above, bright or dark below: two questions of one image."""
    caplog.set_level(logging.INFO)
    random, rows = np.random.default_rng(0), [("path", "label")]
    for i in range(48):
        above, below = i & 1, i >> 1 & 1
        pixels = (
            random.integers(0, 40, (40, 40, 3)) + np.repeat([40 + 150 * above, 40 + 150 * below], 20)[:, None, None]
        )
        (tmp_path / "i").mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "i" / f"{i:02d}.png")
        rows.append((f"i/{i:02d}.png", "|".join(["above"] * above + ["below"] * below)))
    table = write(tmp_path / "t.csv", rows)
    words = {**PROBE, "data.separator": "|", "data.class_weights": "auto"}
    run = tl.train(table, run_dir=tmp_path / "run", **words)
    assert run.metrics["val/macro_average_precision"] > 0.9
    assert {"val/average_precision/above", "val/f1/below", "val/recall/below"} <= run.metrics.keys()
    assert "classes" in run._repr_html_()
    found = run.evaluate(threshold="f1")
    assert found["val/macro_average_precision"] == pytest.approx(run.metrics["val/macro_average_precision"])
    assert "images of 2 classes" in tl.advise(table, **{**words, "strategy": "auto"}).reasons[0]
    for name in ("above", "below"):
        right = [name in answer for answer in run.predict(tmp_path / "i").answers]
        true = [name in row[1] for row in rows[1:]]
        assert np.mean(np.equal(right, true)) > 0.7  # by chance one half
