"""Runs: every option trains, and what a run leaves behind can be used."""

import csv
import json

import lightning as L
import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import mobilenet_v2

from tests.small import SMALL
from tl_lightning.build import build
from tl_lightning.data.images.decode import load_rgb
from tl_lightning.data.images.transforms import eval_transform
from tl_lightning.inputs import ImageInput
from tl_lightning.jobs.train import train
from tl_lightning.options import conf_dir, options
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import load_model
from tl_lightning.tasks import Classification

BACKBONES, STRATEGIES, HEADS = options("backbone"), options("strategy"), options("head")


OPTIONS = [f"{g}={o}" for g in ("head", "augment", "optimizer", "schedule", "strategy") for o in options(g)]


def test_the_lists_are_whole():
    assert (len(BACKBONES), len(STRATEGIES), len(HEADS), len(OPTIONS)) == (86, 11, 3, 23)


@pytest.mark.parametrize(
    "words",
    ["vgg11_bn", "resnet18", "inception_v3", "efficientnet_b0", "convnext_tiny", "swin_t", "mobilenet_v2_formula",
     "timm backbone.name=convnextv2_atto", "timm backbone.name=mobilenetv4_conv_small"],
)  # fmt: skip
def test_a_backbone_trains_a_batch(words, configure):
    """Of each kind, from words on the command line; the contract tests do the same with all others."""
    size = 96 if words == "inception_v3" else 64
    words_of_run = [
        "backbone.weights=null",
        f"backbone.image_size={size}",
        "+trainer.fast_dev_run=true",
        "data.batch_size=2",
    ]
    cfg = configure(*f"backbone={words}".split(), "strategy=finetune_all", "callbacks=none", *words_of_run)
    parts = build(cfg)
    grads = []

    class Look(L.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            grads.extend(p.grad is not None for p in module.parameters())

    parts.trainer.callbacks.append(Look())
    before = parts.module.head[1].weight.clone()
    parts.trainer.fit(parts.module, datamodule=parts.data)
    assert parts.trainer.global_step == 1
    assert not torch.equal(before, parts.module.head[1].weight)
    assert len(grads) > 10
    assert all(grads)  # every parameter of every stage is reached


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains_a_batch(option, configure):
    """One batch an epoch, and epochs enough for a phase per stage."""
    limits = ["+trainer.limit_train_batches=1", "+trainer.limit_val_batches=1", "trainer.max_epochs=6"]
    metrics = train(configure(*SMALL, option, "callbacks=none", *limits))
    assert metrics["epochs"] == (0 if option == "strategy=linear_probe" else 6)
    assert metrics["params/trainable"] > 0


def test_every_group_file_is_short():
    files = [f for f in conf_dir().rglob("*.yaml") if f.parent != conf_dir() and "hydra" not in f.parts]
    assert len(files) >= 45
    for file in files:
        assert len(file.read_text().splitlines()) <= 19, file


@pytest.fixture
def finished(configure, tmp_path):
    cfg = configure(
        *SMALL, "strategy=finetune_top", "trainer.max_epochs=2", "data.val_fraction=0.25", "data.test_fraction=0.25"
    )
    return train(cfg), tmp_path / "run"


def test_a_runs_folder(finished, photos):
    metrics, run = finished
    left = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    expected = {"config.yaml", "metrics.json", "metrics.csv", "splits.csv", "model.safetensors", "model.json",
                "checkpoints/best.ckpt", "checkpoints/last.ckpt", "tensorboard/hparams.yaml"}  # fmt: skip
    assert expected <= left
    assert json.loads((run / "metrics.json").read_text()) == metrics
    keys = {"val/accuracy", "val/macro_f1", "val/loss", "val/calibration_error", "val/recall/dark", "test/accuracy",
            "best/epoch", "epochs", "seconds/fit", "seconds/total", "params/total", "params/trainable", "classes",
            "skipped_files", "final/accuracy"}  # fmt: skip
    assert keys <= metrics.keys()
    assert metrics["classes"] == ["dark", "light"]
    assert metrics["epochs"] == 2
    assert metrics["params/total"] == 2_223_872 + 2 * 1280 + 2
    assert metrics["params/trainable"] == 1_681_344 + 2 * 1280 + 2
    assert RunFolder(run).config()["data"]["root"] == str(photos)
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {f"rate/{s}" for s in ("stem", "stage1", "stage2", "stage3", "stage4", "head")} <= rows[0].keys()
    assert sum(bool(r["val/accuracy"]) for r in rows) >= 2


def test_metrics_equal_scikit_learn_on_the_written_model(finished, photos):
    """The model read back from its folder, fed file by file, reproduces the scores that the run wrote."""
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    metrics, run = finished
    model = load_model(run)
    image = ImageInput(**model.facts["preprocessing"])
    with (run / "splits.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "test"]
    assert len(rows) == 6
    pixels = torch.stack([eval_transform(image)(load_rgb(photos / r["path"])) for r in rows])
    with torch.no_grad():
        probabilities = model.network(image.normalise(pixels)).double().softmax(1)
    labels = [model.facts["classes"].index(r["class"]) for r in rows]
    guesses = probabilities.argmax(1).tolist()
    assert accuracy_score(labels, guesses) == pytest.approx(metrics["test/accuracy"])
    assert f1_score(labels, guesses, average="macro") == pytest.approx(metrics["test/macro_f1"])
    assert log_loss(labels, probabilities.numpy(), labels=[0, 1]) == pytest.approx(metrics["test/loss"], rel=1e-4)


def test_model_files_serve_plain_torchvision(finished):
    _, run = finished
    facts = json.loads((run / "model.json").read_text())
    state = load_file(run / "model.safetensors")
    assert (run / "model.safetensors").stat().st_mode == (run / "splits.csv").stat().st_mode
    plain = mobilenet_v2()  # as the README does it
    plain.classifier[1] = torch.nn.Linear(1280, len(state["head.1.bias"]))
    state["classifier.1.weight"], state["classifier.1.bias"] = state.pop("head.1.weight"), state.pop("head.1.bias")
    plain.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(images), load_model(run).network(images))
    assert facts["strategy"]["_target_"].endswith("FinetuneTop")
    assert facts["strategy"]["speed"] == 1.0  # as it was followed, on random weights
    assert facts["preprocessing"]["size"] == 32
    assert facts["versions"]["torch"] == torch.__version__


def test_a_run_can_start_from_another_runs_model(finished, configure):
    _, run = finished
    cfg = configure(
        "backbone=mobilenet_v2", f"backbone.weights={run}/model.safetensors", "backbone.image_size=32", run="next"
    )
    metrics = train(cfg)
    assert metrics["epochs"] == 1


def test_early_features_and_mlp_reload(configure, tmp_path):
    cfg = configure(*SMALL, "strategy=early_features", "strategy.upto=stage2", "head=mlp", run="early")
    metrics = train(cfg)
    assert metrics["params/total"] == 1_824 + 13_968 + 39_696 + (16 + 24 + 32) * 512 + 512 + 512 * 2 + 2
    model = load_model(tmp_path / "early")
    assert model.network(torch.randn(2, 3, 32, 32)).shape == (2, 2)


def test_checkpoints_hold_plain_values_only(finished):
    _, run = finished
    for name in ("best", "last"):
        loaded = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)  # refuses all but plain values
        assert "backbone.net.features.0.0.weight" in loaded["state_dict"]
        assert not loaded.get("hyper_parameters")
    assert loaded["epoch"] == 1  # last.ckpt is of the last epoch


@pytest.fixture
def worst_is_best(monkeypatch):
    """The highest loss is taken for the best."""
    monkeypatch.setattr(Classification, "rises", lambda task, score: True)


def test_the_model_is_of_the_best_epoch(configure, tmp_path, worst_is_best):
    """With the worst loss declared the best, the first epoch wins: scores and model must be of its checkpoint."""
    cfg = configure(*SMALL, "strategy=feature_extraction", "trainer.max_epochs=3", "callbacks.best.monitor=val/loss",
                    "optimizer.lr=0.1", run="best")  # fmt: skip
    metrics = train(cfg)
    run = tmp_path / "best"
    best, last = (torch.load(run / "checkpoints" / f"{n}.ckpt", weights_only=True) for n in ("best", "last"))
    written = load_file(run / "model.safetensors")["head.1.weight"]
    assert torch.equal(written, best["state_dict"]["head.1.weight"])
    assert not torch.equal(written, last["state_dict"]["head.1.weight"])
    assert metrics["best/epoch"] == best["epoch"] < 2
    with (run / "metrics.csv").open() as file:
        losses = [float(r["val/loss"]) for r in csv.DictReader(file) if r["val/loss"]]
    assert len(losses) == 3  # the final scoring adds no point to the curves
    assert metrics["val/loss"] == pytest.approx(max(losses), rel=1e-4)
    assert metrics["final/loss"] == pytest.approx(losses[-1], rel=1e-4)


def test_ties_go_to_the_later_epoch(configure, tmp_path):
    """A head that learns next to nothing guesses alike in every epoch."""
    metrics = train(
        configure(*SMALL, "strategy=feature_extraction", "trainer.max_epochs=3", "optimizer.lr=1e-9", run="tie")
    )
    with (tmp_path / "tie" / "metrics.csv").open() as file:
        accuracies = {r["val/accuracy"] for r in csv.DictReader(file) if r["val/accuracy"]}
    assert len(accuracies) == 1
    assert metrics["best/epoch"] == 2


def test_a_run_that_was_moved_knows_its_best_epoch(configure, tmp_path, worst_is_best):
    """With the worst loss declared the best, no later epoch is better; after the move it is still the first."""
    words = [*SMALL, "strategy=feature_extraction", "callbacks.best.monitor=val/loss", "optimizer.lr=0.1"]
    before = train(configure(*words, "trainer.max_epochs=3", run="first"))
    moved = (tmp_path / "first").rename(tmp_path / "moved")
    more = "trainer.max_epochs=5"
    after = train(configure(*words, more, f"resume={moved}"), [more])
    assert (after["epochs"], after["best/epoch"]) == (5, before["best/epoch"])
    assert after["val/loss"] == pytest.approx(before["val/loss"], rel=1e-4)
