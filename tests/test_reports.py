"""What TensorBoard is given: read back from the event files of a run."""

import io
import logging
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.small import SMALL
from tl_lightning import bar
from tl_lightning.build import build
from tl_lightning.jobs.train import train
from tl_lightning.reports.curves import Curves
from tl_lightning.reports.figures import confusion_figure, tiles


@pytest.fixture
def events(configure, tmp_path):
    cfg = configure("backbone=mobilenet_v2", "backbone.weights=null", "backbone.image_size=32", "strategy=lp_ft",
                    "strategy.head_epochs=1", "trainer.max_epochs=3", "seed=3")  # fmt: skip
    train(cfg)
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def test_tensorboard_holds_curves_pictures_and_tables(events):
    tags = events.Tags()
    stages = ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    assert {f"rate/{s}" for s in stages} <= set(tags["scalars"])
    assert not any("no_decay" in t for t in tags["scalars"])
    assert {"train/loss_step", "train/loss_epoch", "val/accuracy", "val/recall/dark"} <= set(tags["scalars"])
    assert set(tags["images"]) >= {"train/images", "val/confusion"}
    assert "phase/text_summary" in tags["tensors"]
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert "score/val_accuracy" in tags["scalars"]
    # the stem is frozen in the first phase and learns in the second
    rates = [(e.step, e.value) for e in events.Scalars("rate/stem")]
    assert rates[0][1] == 0.0
    assert max(v for _, v in rates) > 0
    # the phase table is there once per phase, at the epoch it starts
    texts = events.Tensors("phase/text_summary")
    assert [t.step for t in texts] == [0, 1]
    assert "| stage4 |" in texts[0].tensor_proto.string_val[0].decode()


def test_every_epoch_has_a_confusion_matrix_on_the_axis_of_the_scores(configure, tmp_path, monkeypatch):
    """And epochs that are shorter than ten pictures have the last: drawing would cost more than training."""
    steps = {}
    for name, share in (("slow", 1e9), ("quick", 1e-9)):  # as if pictures took no time, or for ever
        monkeypatch.setattr("tl_lightning.build.Curves", partial(Curves, share=share))
        train(configure(*SMALL, "strategy=finetune_all", "trainer.max_epochs=3", run=name))
        found = EventAccumulator(str(tmp_path / name / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
        found.Reload()
        steps[name] = [[e.step for e in kept("val/accuracy" if kept == found.Scalars else "val/confusion")]
                       for kept in (found.Scalars, found.Images)]  # fmt: skip
    scores, pictures = steps["slow"]
    assert len(scores) == 3
    assert pictures == scores
    scores, pictures = steps["quick"]
    assert pictures == [scores[0], scores[-1]]


@pytest.mark.parametrize("show", [False, True])
def test_a_long_pass_says_how_far_it_is(monkeypatch, caplog, show):
    """A line after five seconds, then every thirty; nothing beside a bar that somebody sees."""
    caplog.set_level(logging.INFO)
    now = [100.0]
    monkeypatch.setattr(bar.time, "monotonic", lambda: now[0])
    with bar.Bar(60, "texts", "tokens", show) as shown:
        for _ in range(60):
            now[0] += 1
            shown.advance(1)
    lines = [] if show else [f"tokens    {done} of 60 texts, 1 a second, {60 - done} s left" for done in (5, 35)]
    assert caplog.messages == lines


def test_training_images_are_shown_as_people_know_them(events):
    grid = np.asarray(Image.open(io.BytesIO(events.Images("train/images")[0].encoded_image_string)))
    height = len(grid)
    tiles = np.array_split(grid[height * 2 // 5 : height * 4 // 5, :, :3], 4, axis=1)
    levels = [int(np.median(tile[:, tile.shape[1] // 4 : -tile.shape[1] // 4])) for tile in tiles]
    assert all(min(abs(v - 60), abs(v - 190)) < 15 for v in levels)  # grey levels of the two classes, not normalised


def test_each_tile_stands_under_its_label():
    images = torch.stack([torch.full((3, 8, 8), level) for level in (0.2, 0.8)])
    said, swapped = (tiles(images, labels, columns=2) for labels in (["dark", "$light\n\t"], ["$light", "dark"]))
    left, right = said.chunk(2, dim=2)
    assert [round(float(half[:, -64, half.shape[2] // 2].mean()), 1) for half in (left, right)] == [0.2, 0.8]
    above = [half[:, : -half.shape[2]] for half in (left, right, *swapped.chunk(2, dim=2))]
    assert torch.equal(above[0], above[3]) and torch.equal(above[1], above[2])
    assert above[0].min() < 0.5 and not torch.equal(above[0], above[1])


def test_the_preview_names_what_it_shows(configure):
    """Dark images under "dark", light ones under "light": as drawn in training, and as kept views."""
    for option in ("strategy=finetune_all", "strategy=feature_extraction"):
        setup = build(configure(*SMALL, option, "callbacks=none", "logger=none", run=option))
        loaders, setup.module.input_stage = setup.frozen.loaders(torch.device("cpu"), 1)
        setup.trainer.fit(setup.module, datamodule=loaders)
        shown = loaders.preview()
        assert len(shown.images) == len(shown.labels) > 1
        assert ["dark" if image.mean() < 0.5 else "light" for image in shown.images] == list(shown.labels)


def test_confusion_picture_shows_counts():
    counts = torch.tensor([[5, 0], [2, 3]])
    figure = confusion_figure(counts, ("ants", "bees"))
    axes = figure.axes[0]
    assert {(t.get_text(), t.get_position()) for t in axes.texts} == {("5", (0, 0)), ("2", (0, 1)), ("3", (1, 1))}
    assert [t.get_text() for t in axes.get_xticklabels()] == ["ants", "bees"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[1, 0], [0.4, 0.6]])
    assert not confusion_figure(torch.eye(40), tuple(map(str, range(40)))).axes[0].texts
