"""Runs on kept features and solved heads."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file

from tests.small import SMALL
from tl_lightning.build import build
from tl_lightning.callbacks.checkpoints import LastCheckpoint
from tl_lightning.data.images.decode import load_rgb
from tl_lightning.data.images.transforms import eval_transform
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput
from tl_lightning.jobs.train import _prepare, train
from tl_lightning.runs.model import load_model
from tl_lightning.runs.resume import Progress, _forget


def test_linear_probe_is_an_ordinary_run(configure, tmp_path, photos):
    """No epoch, but scores, a checkpoint and a model that gives them again from the folder alone."""
    metrics = train(configure(*SMALL, "strategy=linear_probe", "data.val_fraction=0.25"))
    run = tmp_path / "run"
    assert metrics["epochs"] == 0
    assert "best/epoch" not in metrics
    assert metrics["val/accuracy"] == 1.0
    assert metrics["params/trainable"] == 2 * 1280 + 2
    model = load_model(run)
    assert model.facts["strategy"]["_target_"].endswith("LinearProbe")
    image = ImageInput(**model.facts["preprocessing"])
    with (run / "splits.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "val"]
    pixels = torch.stack([eval_transform(image)(load_rgb(photos / r["path"])) for r in rows])
    with torch.no_grad():
        guesses = model.network(image.normalise(pixels)).argmax(1)
    assert [model.task.outputs[i] for i in guesses] == [r["class"] for r in rows]
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(state["head.1.weight"], load_file(run / "model.safetensors")["head.1.weight"])
    assert list((run / "tensorboard").rglob("events*"))


def test_class_weights_reach_the_solved_head(configure):
    """Heavier mistakes on one class move the bias towards it."""
    biases = []
    for i, weights in enumerate(("none", "{dark: 20.0}")):
        cfg = configure(*SMALL, "strategy=linear_probe", f"data.class_weights={weights}", run=f"run{i}")
        parts = build(cfg)
        _prepare(parts, None)
        bias = parts.module.head[1].bias
        biases.append(float((bias[0] - bias[1]).detach()))
    assert biases[1] > biases[0]


def test_lp_ft_starts_from_the_solved_head(configure, caplog):
    caplog.set_level("INFO")
    solved = ["strategy=lp_ft", "strategy.head_epochs=0", "strategy.norm=eval"]
    parts = build(configure(*SMALL, *solved))
    before = parts.module.head[1].weight.clone()
    _prepare(parts, None)
    assert not torch.equal(parts.module.head[1].weight, before)
    assert "head      solved: accuracy 1.0000 in 3 folds" in caplog.text
    with pytest.raises(UserError, match="only a linear head can be solved exactly"):
        build(configure(*SMALL, *solved, "head=mlp"))
    with pytest.raises(UserError, match=r"strategy.head_epochs=0 on random weights"):
        build(configure(*SMALL, *solved[:2]))
    build(configure(*SMALL, "strategy=lp_ft", "strategy.head_epochs=1", "head=mlp", "trainer.max_epochs=2"))


def test_a_balanced_sampler_weighs_like_class_weights(configure, photos, monkeypatch):
    """Drawing rare classes more often and weighing them more are one objective, and solved as one."""
    for path in sorted((photos / "dark").iterdir())[:8]:
        path.unlink()
    found = []
    monkeypatch.setattr("tl_lightning.heads.solve.solve_classes", lambda *given: found.append(given[3]))
    for option in ("data.sampler=balanced", "data.class_weights=auto", "data.sampler=none"):
        data = build(configure(*SMALL, "data.batch_size=2", option)).data
        data.task.solve(np.zeros((1, 1)), data.samples.targets("train"))
    torch.testing.assert_close(found[0], found[1])
    assert found[0][0] > found[0][1]
    torch.testing.assert_close(found[2], torch.ones(2))


def test_resuming_takes_back_rows_of_epochs_after_the_checkpoint(configure, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss,step\n0,1.0,1\n1,0.5,2\n,0.4,3\n,0.4,4\n2,0.3,4\n")
    _forget(path, Progress(path, 2, 4))
    assert path.read_text().split() == ["epoch,loss,step", "0,1.0,1", "1,0.5,2", ",0.4,3"]


def test_a_better_epoch_is_kept_at_once_and_all_ranks_agree(tmp_path, monkeypatch):
    """Saving is collective: the decision is the first rank's, whatever this rank's clock says."""
    saved = []
    monkeypatch.setattr(ModelCheckpoint, "on_train_epoch_end", lambda *a: saved.append(a[1].current_epoch))
    keeper = ModelCheckpoint(tmp_path)

    def trainer(epoch, said=lambda due: due, loss=1.0):
        strategy = SimpleNamespace(broadcast=said)
        return SimpleNamespace(
            should_stop=False, current_epoch=epoch, max_epochs=9, checkpoint_callback=keeper, strategy=strategy,
            callback_metrics={"val/loss": torch.tensor(loss)}, is_global_zero=True,
        )  # fmt: skip

    last = LastCheckpoint(apart=1e9, dirpath=tmp_path)
    for epoch, score in ((0, 0.5), (1, 0.5), (2, 0.7), (3, 0.7), (8, 0.7)):
        keeper.best_model_score = torch.tensor(score)
        last.on_train_epoch_end(trainer(epoch), None)
    assert saved == [0, 2, 8]
    last.on_train_epoch_end(trainer(4, lambda due: True), None)
    last.on_train_epoch_end(trainer(8, lambda due: False), None)
    assert saved == [0, 2, 8, 4]
    last.on_train_epoch_end(trainer(8, loss=float("nan")), None)  # an epoch that is no number is not gone on from
    assert saved == [0, 2, 8, 4]


def test_another_head_rate_and_seed_reuse_the_features(configure, caplog):
    caplog.set_level("INFO")
    train(configure(*SMALL, "strategy=feature_extraction", run="a"))
    assert "random crops, each image and its mirror image: 44 rows" in caplog.text
    caplog.clear()
    # the same random weights again: a file's would be
    train(configure(*SMALL, "strategy=feature_extraction", "head=mlp", "optimizer.lr=0.01", "data.seed=5", run="b"))
    assert "all from an earlier run" in caplog.text


def test_resuming_takes_the_frozen_stages_from_the_run(configure, tmp_path, monkeypatch):
    """What lies below the boundary is that of the checkpoint, not of the weights file as it is today."""
    train(configure(*SMALL, "strategy=feature_extraction", "trainer.max_epochs=1"))
    checkpoint = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    parts = build(configure(*SMALL, "strategy=feature_extraction", "seed=9", run="other"))
    kept = torch.load(checkpoint, weights_only=True)["state_dict"]["backbone.net.features.0.0.weight"]
    assert not torch.equal(parts.module.backbone.net.features[0][0].weight, kept)
    _prepare(parts, checkpoint)
    assert torch.equal(parts.module.backbone.net.features[0][0].weight, kept)


@pytest.mark.parametrize("wrong", ["cache=of", "cache=0", "engine=fast", "cache_dtype=int8", "data.cache=tape"])
def test_bad_choices_of_what_is_kept(wrong, configure):
    key, value = wrong.split("=")
    with pytest.raises(UserError, match=rf"{key}={value} is unknown: use "):
        build(configure(*SMALL, wrong))


@pytest.mark.parametrize(
    ("weights", "said"), [("null", "keep their random weights"), ("formula", "keep what drawn images taught them")]
)
def test_frozen_stages_that_know_little_are_warned_of(weights, said, configure, caplog):
    cfg = configure("backbone=mobilenet_v2_formula", f"backbone.weights={weights}", "strategy=linear_probe",
                    "backbone.image_size=32", "data.val_fraction=0.25")  # fmt: skip
    with caplog.at_level("WARNING"):
        train(cfg)
    assert f"frozen stages {said}: strategy=finetune_all trains them all" in caplog.text


def test_training_from_an_exact_head_does_not_end_below_it(configure, caplog, monkeypatch, tmp_path):
    """Rates that destroy what the head knew: the weights that are kept are those of the start, and it is said."""
    caplog.set_level("INFO")
    words = ["backbone=mobilenet_v2", "backbone.weights=formula", "backbone.image_size=32", "strategy=lp_ft"]
    metrics = train(configure(*words, "optimizer.lr=3", "trainer.max_epochs=2", "trainer.gradient_clip_val=null",
                              "schedule=constant", "data.val_fraction=0.4"))  # fmt: skip
    start = float(caplog.text.partition("start     val/accuracy ")[2][:6])
    assert start == 1.0 > metrics["final/accuracy"]
    assert metrics["val/accuracy"] == start
    assert metrics["best/epoch"] == -1
    assert "(the exact head, before any epoch)" in caplog.text


def test_labels_are_smoothed_but_where_training_begins_from_an_exact_head(configure):
    words = ["backbone=mobilenet_v2", "backbone.weights=formula", "backbone.image_size=32"]
    for option, smoothing in (("strategy=lp_ft", 0.0), ("strategy=finetune_all", 0.1)):
        assert build(configure(*words, option, run=option)).module.training_loss.label_smoothing == smoothing
    asked = build(configure(*words, "strategy=lp_ft", "label_smoothing=0.3"))
    assert asked.module.training_loss.label_smoothing == 0.3
