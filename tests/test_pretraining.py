"""Drawn images, and the network pretrained on them."""

import colorsys
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from omegaconf import OmegaConf
from safetensors import safe_open
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import mobilenet_v2

from tests.commands import QUICK, REPO, refused, tl
from tl_lightning.callbacks.checkpoints import LastCheckpoint
from tl_lightning.pretraining import fractals, noise
from tl_lightning.pretraining.data import DrawnImages
from tl_lightning.pretraining.module import Pretraining, recalibrate
from tl_lightning.pretraining.scenes import Artist, Stream
from tl_lightning.runs.pretrain import write


def test_every_system_is_contractive_and_spends_its_sum():
    systems = fractals.sample(500, 3)
    maps = (systems.probabilities > 0).sum(1)
    assert set(maps.tolist()) == {2, 3, 4}
    np.testing.assert_allclose(systems.probabilities.sum(1), 1, rtol=1e-5)
    singular = np.linalg.svd(systems.matrices, compute_uv=False)
    assert singular.max() < 1
    spent = (singular @ np.array([1.0, 2.0]) * (systems.probabilities > 0)).sum(1)
    assert (spent <= 3 + maps / 2 + 1e-5).all()
    assert (spent >= 2.5 + maps / 2 - 0.005 * maps - 1e-5).all()  # values are cut just below 1
    assert np.array_equal(systems.matrices, fractals.sample(500, 3).matrices)
    assert not np.array_equal(systems.matrices, fractals.sample(500, 4).matrices)


def test_points_lie_on_a_known_attractor():
    """Sierpinski's triangle: the points of the unit square whose binary digits never share a one."""
    half = np.zeros((1, 4, 2, 2), np.float32)
    half[0, :3] = np.eye(2) / 2
    offsets = np.array([[[0, 0], [0.5, 0], [0, 0.5], [0, 0]]], np.float32)
    triangle = fractals.Systems(half, offsets, np.array([[1, 1, 1, 0]], np.float32) / 3)
    points = fractals.orbit(triangle, 0, np.random.default_rng(0), 512, 4)
    digits = np.floor(points.astype(np.float64) * 2**7).astype(int)
    inside = (digits >= 0).all(1) & (digits < 2**7).all(1)
    assert inside.mean() > 0.99
    assert (digits[inside, 0] & digits[inside, 1] == 0).mean() > 0.998  # a last digit may be carried
    coarse, hits = np.unique(digits[inside] // 2**3, axis=0, return_counts=True)
    assert (hits > 2).sum() == 81  # of 16 x 16 cells, 3^4 belong to it
    assert len(coarse) < 90
    box = fractals.cloud(triangle, 0, np.random.default_rng(0))
    assert np.abs(np.quantile(box, (0.01, 0.99), axis=0)).max() < 1.01


def test_fields_are_even_and_rough_at_every_scale():
    even = noise.Materials(*(np.array([v], np.float32) for v in (1.5, 1, 0, 0, 0, 0, 0, 1)))
    field = noise.field(even, 0, 64, np.random.default_rng(0))
    np.testing.assert_allclose(np.sort(field.ravel()), np.linspace(0, 1, 64 * 64), atol=1e-6)
    power = np.abs(np.fft.fft2(field - field.mean())) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    bands = [power[(radius >= low) & (radius < 2 * low)].mean() for low in (1 / 64, 1 / 32, 1 / 16, 1 / 8)]
    assert bands == sorted(bands, reverse=True)
    long = dataclasses.replace(even, stretch=np.array([4], np.float32))  # from left to right
    field = noise.field(long, 0, 64, np.random.default_rng(0))
    assert np.abs(np.diff(field, axis=1)).mean() < 0.5 * np.abs(np.diff(field, axis=0)).mean()


@pytest.mark.parametrize("hsv", [(0.0, 1.0, 1.0), (0.3, 0.5, 0.8), (0.65, 0.2, 0.4), (0.9, 1.0, 0.6)])
def test_colours_are_those_of_the_standard_library(hsv):
    hue, saturation, value = hsv
    found = noise.palette(hue, 0, saturation, value, value)[100]
    np.testing.assert_allclose(found, 255 * np.array(colorsys.hsv_to_rgb(*hsv)), atol=1)


def stream(**changes):
    values = {"size": 32, "batches": 4, "batch_size": 6, "difficulty": 0.5, "seed": (0, 1, 2)} | changes
    return Stream(fractals.sample(20, 0), noise.sample(5, 0), **values)


def images(source, workers=0):
    return torch.cat([batch for batch, _ in DataLoader(source, batch_size=None, num_workers=workers)])


def test_a_stream_is_a_function_of_its_seeds():
    assert torch.equal(images(stream()), images(stream()))
    assert images(stream()).shape == (24, 3, 32, 32)
    assert not torch.equal(images(stream()), images(stream(seed=(0, 2, 2))))
    shared = images(stream(), workers=2)
    assert torch.equal(shared, images(stream(), workers=2))
    assert len(shared) == len(shared.flatten(1).unique(dim=0)) == 24  # workers draw different images


@pytest.mark.parametrize(("difficulty", "most"), [(0.0, 1), (1.0, 4)])
def test_labels_say_what_was_drawn(difficulty, most):
    artist = Artist(fractals.sample(50, 0), noise.sample(5, 0), 48, np.random.default_rng(0), difficulty)
    drawn = [artist.scene() for _ in range(200)]
    numbers = [len(present) - 1 for _, present in drawn]
    assert all(50 <= present[-1] < 55 for _, present in drawn)  # the material
    assert set(numbers) == set(range(1, most + 1))
    assert 40 <= len({i for _, present in drawn for i in present[:-1]}) <= 50
    if difficulty == 0:  # one colour around one attractor
        corners = np.stack([image[:, [0, 0, -1, -1], [0, -1, 0, -1]] for image, _ in drawn])
        plain = (np.ptp(corners.astype(int), axis=2) == 0).all(1)
        assert plain.mean() > 0.8
    _, present = next(iter(Stream(fractals.sample(50, 0), noise.sample(5, 0), 48, 1, 64, difficulty, (0,))))
    assert present[:, :50].sum(1).max() == most
    assert (present[:, 50:].sum(1) == 1).all()


def test_one_picture_is_as_its_parts_say():
    """A system's attractor fills the pixels where its points fall, and no others."""
    artist = Artist(fractals.sample(5, 0), noise.sample(5, 0), 32, np.random.default_rng(0), 0.0, pool=8)
    canvas = np.zeros((3, 32, 32), np.uint8)
    corner = np.array([[-0.5, -0.5], [0.5, 0.5]], np.float32)
    artist._put(canvas, corner)
    rows, columns = canvas.any(0).nonzero()
    assert len(rows) == 2
    assert rows[0] < rows[1]
    assert columns[0] < columns[1]
    assert 0.35 * 32 - 1 <= rows[1] - rows[0] <= 17


class Stop(Callback):
    """Breaks off in the third epoch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == 2 and batch_idx == 1:
            raise RuntimeError("killed")


def pretrained(folder, *callbacks, resume=None):
    torch.manual_seed(0)
    module = Pretraining("mobilenet_v2", 8, 4, lr=1e-3, weight_decay=0.05)
    data = DrawnImages(8, 4, 24, 8, seed=0, sizes=(32, 40))
    keep = LastCheckpoint(apart=0, dirpath=folder, filename="last", save_on_train_epoch_end=True)
    trainer = Trainer(
        accelerator="cpu", max_epochs=4, logger=False, callbacks=[EMAWeightAveraging(decay=0.5), keep, *callbacks],
        reload_dataloaders_every_n_epochs=1, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return module, data


def test_killed_and_resumed_is_as_never_stopped(tmp_path):
    whole, _ = pretrained(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        pretrained(tmp_path / "killed", Stop())
    again, _ = pretrained(tmp_path / "killed", resume=tmp_path / "killed" / "last.ckpt")
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0)


def test_difficulty_and_size_over_a_run():
    data = DrawnImages(4, 4, 8, 8, seed=0, sizes=(64, 96), late=0.3, ramp=(0.1, 0.6))
    assert [data.size(e, 10) for e in range(10)] == [64] * 7 + [96] * 3
    expected = [0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1]
    np.testing.assert_allclose([data.difficulty(e, 10) for e in range(10)], expected)


def test_statistics_are_the_mean_over_batches():
    batches = [torch.randint(0, 255, (4, 3, 8, 8), dtype=torch.uint8) for _ in range(3)]
    net = nn.Sequential(nn.BatchNorm2d(3)).eval()
    recalibrate(net, batches)
    seen = [(b.float() / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) for b in batches]
    seen = [s / torch.tensor([0.229, 0.224, 0.225])[:, None, None] for s in seen]
    torch.testing.assert_close(net[0].running_mean, torch.stack([s.mean((0, 2, 3)) for s in seen]).mean(0))
    torch.testing.assert_close(net[0].running_var, torch.stack([s.var((0, 2, 3)) for s in seen]).mean(0))
    assert not net.training
    assert net[0].momentum == 0.1


def test_the_file_is_torchvision_s_network(tmp_path):
    torch.manual_seed(0)
    module, data = (
        Pretraining("mobilenet_v2", 8, 4, lr=1e-3, weight_decay=0),
        DrawnImages(8, 4, 8, 8, seed=0, sizes=(32, 48)),
    )
    cfg = OmegaConf.create(
        {"seed": 0, "model": {"name": "mobilenet_v2"}, "data": {"views": 8}, "trainer": {"max_epochs": 2}}
    )
    write(tmp_path / "w.safetensors", cfg, module, data)
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}
        facts = file.metadata()
    assert (facts["size"], facts["views"], facts["licence"]) == ("48", "16", "Apache-2.0")
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float16}
    plain = mobilenet_v2()
    missing, unexpected = plain.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["classifier.1.weight", "classifier.1.bias"], [])
    plain.classifier = nn.Identity()
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        ours, theirs = module.backbone.eval()(x), plain.eval()(x)
    assert (ours - theirs).norm() < 3e-2 * ours.norm()


PRETRAIN = (sys.executable, str(REPO / "scripts" / "pretrain.py"))
DRAWN = [
    "data.systems=8",
    "data.materials=4",
    "data.views=32",
    "data.batch_size=8",
    "data.sizes=[32,40]",
    "trainer.accelerator=cpu",
]


def test_pretraining_on_two_processes_and_training_from_its_file(photos, tmp_path):
    options = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=2", "hydra.run.dir=drawn"]
    result = tl(*DRAWN, *options, cwd=tmp_path, program=PRETRAIN)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [line.split()[:2] for line in result.stdout.splitlines() if line.startswith("epoch")] == [
        ["epoch", "0"],
        ["epoch", "1"],
    ]
    file = result.stdout.strip().splitlines()[-1]
    assert Path(file) == tmp_path / "drawn" / "weights.safetensors"
    assert list((tmp_path / "drawn" / "tensorboard").iterdir())
    after = tl(*QUICK[3:], "backbone=mobilenet_v2", f"backbone.weights={file}", f"data.root={photos}", cwd=tmp_path)
    assert after.returncode == 0, after.stderr
    assert "40 px" in after.stdout  # those that the weights were last trained on
    rates = [line.split("│")[4].strip() for line in after.stdout.splitlines() if "│ stage" in line]
    assert rates == ["1.0e-03"] * 4  # drawn images taught nothing that full rates would destroy
    assert "forgetting" not in after.stdout


def test_pretraining_on_bad_input(tmp_path):
    def refuse(*words):
        return tl(*DRAWN, "trainer.devices=1", *words, cwd=tmp_path, program=PRETRAIN)

    refused(refuse("data.late=2"), "data.late=2")
    refused(refuse("data.views=4"), "data.views=4", "data.batch_size=8")
    refused(refuse("model.name=nothing"), "nothing")
    refused(refuse("resume=nowhere"), "resume=nowhere cannot be resumed")
