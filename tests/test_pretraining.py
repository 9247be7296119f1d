"""A network pretrained on drawn images."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from omegaconf import OmegaConf
from safetensors import safe_open
from torch import nn
from torchvision.models import mobilenet_v2

from tests.commands import QUICK, REPO, refused, tl
from tl_lightning.backbones.norms import recalibrate
from tl_lightning.callbacks.checkpoints import LastCheckpoint
from tl_lightning.jobs.pretrain import write
from tl_lightning.pretraining.data import DrawnImages
from tl_lightning.pretraining.pretraining_module import INPUT, Pretraining, level


class Stop(Callback):
    """Breaks off in the third epoch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == 2 and batch_idx == 1:
            raise RuntimeError("killed")


def pretrained(folder, *callbacks, resume=None):
    torch.manual_seed(0)
    module = Pretraining("mobilenet_v2", 8, share=1, lr=1e-3, weight_decay=0.05)
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
    recalibrate(net, (INPUT.normalise(b) for b in batches))
    seen = [(b.float() / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) for b in batches]
    seen = [s / torch.tensor([0.229, 0.224, 0.225])[:, None, None] for s in seen]
    torch.testing.assert_close(net[0].running_mean, torch.stack([s.mean((0, 2, 3)) for s in seen]).mean(0))
    torch.testing.assert_close(net[0].running_var, torch.stack([s.var((0, 2, 3)) for s in seen]).mean(0))
    assert not net.training
    assert net[0].momentum == 0.1


def test_levelled_weights_are_of_one_size_and_say_the_same():
    torch.manual_seed(0)
    plain, levelled = mobilenet_v2().eval(), mobilenet_v2().eval()
    for m in plain.modules():
        if isinstance(m, nn.BatchNorm2d):  # statistics as after some training
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 2)
    levelled.load_state_dict(plain.state_dict())
    level(levelled)
    sizes = [m.weight.square().mean().sqrt().item() for m in levelled.modules() if isinstance(m, nn.Conv2d)]
    np.testing.assert_allclose(sizes, 0.25, rtol=1e-5)
    assert len(sizes) == 52
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(levelled(images), plain(images), rtol=1e-3, atol=1e-4)


def test_the_file_is_torchvision_s_network(tmp_path):
    torch.manual_seed(0)
    module, data = (
        Pretraining("mobilenet_v2", 8, share=1, lr=1e-3, weight_decay=0),
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


def held(file):
    """Metadata and every number of a file of weights."""
    with safe_open(file, "pt") as weights:
        return weights.metadata(), {key: weights.get_tensor(key).tolist() for key in weights.keys()}


def epochs(result):
    return [int(line.split()[1]) for line in result.stdout.splitlines() if line.startswith("epoch")]


def killed_after_an_epoch(*words, cwd):
    """A run of several processes that is killed, all of it, as soon as it has kept its first epoch."""
    run = subprocess.Popen([*PRETRAIN, *words], cwd=cwd, start_new_session=True, stdout=subprocess.DEVNULL)
    kept, deadline = cwd / "killed" / "checkpoints" / "last.ckpt", time.monotonic() + 120
    while not kept.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert kept.exists()
    assert not (cwd / "killed" / "weights.safetensors").exists()


def test_pretraining_on_two_processes_and_training_from_its_file(photos, tmp_path):
    options = [*DRAWN, "data.views=16", "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=3"]
    result = tl(*options, "hydra.run.dir=drawn", cwd=tmp_path, program=PRETRAIN)
    assert result.returncode == 0, result.stdout + result.stderr
    assert epochs(result) == [0, 1, 2]
    file = result.stdout.strip().splitlines()[-1]
    assert Path(file) == tmp_path / "drawn" / "weights.safetensors"
    assert list((tmp_path / "drawn" / "tensorboard").iterdir())
    written = held(file)
    Path(file).unlink()
    ended = tl("resume=drawn", cwd=tmp_path, program=PRETRAIN)
    assert (ended.returncode, epochs(ended)) == (0, []), ended.stderr
    assert held(file) == written
    killed_after_an_epoch(*options, "hydra.run.dir=killed", cwd=tmp_path)
    again = tl("resume=killed", cwd=tmp_path, program=PRETRAIN)
    assert again.returncode == 0, again.stdout + again.stderr
    assert epochs(again) == epochs(result)[-len(epochs(again)) :]
    assert 1 <= len(epochs(again)) <= 2
    assert held(tmp_path / "killed" / "weights.safetensors") == written
    after = tl(*QUICK[3:], "backbone=mobilenet_v2", f"backbone.weights={file}", f"data.root={photos}", cwd=tmp_path)
    assert after.returncode == 0, after.stderr
    assert "(drawn images; where ImageNet weights may be had, they know photographs better)" in after.stdout
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
