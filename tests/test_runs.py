"""Runs: every option trains, and what a run leaves behind can be used."""

import csv
import json
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torchvision.models import mobilenet_v2

from tl_lightning.backbones import Backbone
from tl_lightning.callbacks.checkpoints import LastCheckpoint
from tl_lightning.data.images import load_rgb
from tl_lightning.data.transforms import eval_transform
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput
from tl_lightning.runs.build import build, instantiate
from tl_lightning.runs.cli import choices, conf_dir
from tl_lightning.runs.record import load_model
from tl_lightning.runs.resume import _forget
from tl_lightning.runs.train import _prepare, train

SMALL = ["backbone=mobilenet_v2", "backbone.weights=null", "backbone.image_size=32"]
BACKBONES, STRATEGIES, HEADS = choices("backbone"), choices("strategy"), choices("head")
OPTIONS = [f"{g}={o}" for g in ("head", "augment", "optimizer", "schedule", "strategy") for o in choices(g)]


def test_the_lists_are_whole():
    assert (len(BACKBONES), len(STRATEGIES), len(HEADS), len(OPTIONS)) == (22, 7, 3, 18)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_trains_a_batch(name, configure):
    size = 96 if name == "inception_v3" else 64
    options = [
        "backbone.weights=null",
        f"backbone.image_size={size}",
        "+trainer.fast_dev_run=true",
        "data.batch_size=2",
    ]
    cfg = configure(f"backbone={name}", "strategy=finetune_all", "callbacks=none", *options)
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
    assert OmegaConf.load(run / "config.yaml").data.root == str(photos)
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {f"rate/{s}" for s in ("stem", "stage1", "stage2", "stage3", "stage4", "head")} <= rows[0].keys()
    assert sum(bool(r["val/accuracy"]) for r in rows) >= 2


def test_metrics_equal_scikit_learn_on_the_written_model(finished, photos):
    """The model read back from its folder, fed file by file, reproduces the scores that the run wrote."""
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    metrics, run = finished
    network, facts = load_model(run)
    image = ImageInput(**facts["preprocessing"])
    with (run / "splits.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "test"]
    assert len(rows) == 6
    pixels = torch.stack([eval_transform(image)(load_rgb(photos / r["path"])) for r in rows])
    with torch.no_grad():
        probabilities = network(image.normalise(pixels)).double().softmax(1)
    labels = [facts["classes"].index(r["class"]) for r in rows]
    guesses = probabilities.argmax(1).tolist()
    assert accuracy_score(labels, guesses) == pytest.approx(metrics["test/accuracy"])
    assert f1_score(labels, guesses, average="macro") == pytest.approx(metrics["test/macro_f1"])
    assert log_loss(labels, probabilities.numpy(), labels=[0, 1]) == pytest.approx(metrics["test/loss"], rel=1e-4)


def test_model_files_serve_plain_torchvision(finished):
    _, run = finished
    facts = json.loads((run / "model.json").read_text())
    state = load_file(run / "model.safetensors")
    plain = mobilenet_v2()  # as the README does it
    plain.classifier[1] = torch.nn.Linear(1280, len(state["head.1.bias"]))
    state["classifier.1.weight"], state["classifier.1.bias"] = state.pop("head.1.weight"), state.pop("head.1.bias")
    plain.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(images), load_model(run)[0](images))
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
    network, _ = load_model(tmp_path / "early")
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 2)


def test_checkpoints_hold_plain_values_only(finished):
    _, run = finished
    for name in ("best", "last"):
        loaded = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)  # refuses all but plain values
        assert "backbone.net.features.0.0.weight" in loaded["state_dict"]
        assert not loaded.get("hyper_parameters")
    assert loaded["epoch"] == 1  # last.ckpt is of the last epoch


def test_the_model_is_of_the_best_epoch(configure, tmp_path):
    """With the worst loss declared the best, the first epoch wins: scores and model must be of its checkpoint."""
    cfg = configure(*SMALL, "strategy=feature_extraction", "trainer.max_epochs=3", "callbacks.best.monitor=val/loss",
                    "callbacks.best.mode=max", "optimizer.lr=0.1", run="best")  # fmt: skip
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


def test_compile_and_channels_last_are_applied(configure, monkeypatch):
    asked = []
    monkeypatch.setattr(Backbone, "compile", lambda self, backend: asked.append(backend))
    parts = build(configure(*SMALL, "trainer.compile=aot_eager"))
    assert asked == ["aot_eager"]
    weight = parts.module.backbone.net.features[1].conv[0][0].weight
    first = parts.module.backbone.net.features[0][0].weight
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert weight.shape[1] == 1
    with pytest.raises(UserError, match=r"trainer.compile=inductr: did you mean inductor"):
        build(configure(*SMALL, "trainer.compile=inductr"))


BAD_VALUES = ["data.batch_size=2.5", "data.workers=-1", "seed=null", "label_smoothing=2", "augment.min_scale=2",
              "strategy.speed=abc", "trainer.log_every_n_steps=0", "trainer.accumulate_grad_batches=0",
              "data.max_per_class=0", "trainer.strategy=finetune_top", "+trainer.foo=1", "+optimizer.foo=1",
              "backbone.image_size=64.5", "schedule.warmup=2", "+trainer.limit_val_batches=0", "data.sampler=fair",
              "+trainer.check_val_every_n_epoch=2", "trainer.devices=0", "trainer.strategy=fsdp",
              "data.class_weights={darker: 2}", "+strategy.foo=1", "optimizer.lr=-1"]  # fmt: skip


@pytest.mark.parametrize("override", BAD_VALUES)
def test_bad_values_are_user_errors_before_training(override, configure):
    with pytest.raises(UserError) as caught:
        build(configure(*SMALL, override))
    assert "\n" not in str(caught.value)


def test_fast_dev_run_works_with_phases(configure):
    parts = build(configure(*SMALL, "strategy=lp_ft", "trainer.max_epochs=5", "+trainer.fast_dev_run=true"))
    parts.trainer.fit(parts.module, datamodule=parts.data)
    assert parts.trainer.global_step == 1


def test_a_cosine_head_does_not_stop_the_next_run(configure, tmp_path):
    train(configure(*SMALL, "head=cosine", run="cosine"))
    weights = f"backbone.weights={tmp_path}/cosine/model.safetensors"
    assert train(configure("backbone=mobilenet_v2", weights, "backbone.image_size=32", run="next"))["epochs"] == 1


def test_equal_seeds_give_equal_models(configure):
    a = train(configure(*SMALL, "augment=strong", "head.dropout=0.5", run="a"))
    b = train(configure(*SMALL, "augment=strong", "head.dropout=0.5", run="b"))
    c = train(configure(*SMALL, "augment=strong", "head.dropout=0.5", "seed=1", run="c"))
    assert a["val/loss"] == b["val/loss"] != c["val/loss"]


def test_class_weights_and_few_shot_by_configuration(configure, tmp_path):
    cfg = configure(*SMALL, "data.class_weights={dark: 2.0}", "data.max_per_class=3", "data.batch_size=2")
    parts = build(cfg)
    assert parts.data.folder.counts("train") == [3, 3]
    torch.testing.assert_close(parts.module.class_weights, torch.tensor([4 / 3, 2 / 3]))


def test_early_stopping_waits_for_the_last_phase(configure):
    """Patience that would end the run in the head's phase does not; in the last phase it does."""
    options = [
        "strategy=lp_ft",
        "strategy.head_epochs=3",
        "callbacks.early_stopping.patience=1",
        "trainer.max_epochs=9",
    ]
    metrics = train(configure(*SMALL, *options, "+callbacks.early_stopping.min_delta=10"))
    assert metrics["epochs"] == 3 + 2  # the first check of the last phase sets the mark, the second stops


@pytest.mark.parametrize("target", ["os.system", "tl_lightning.paths.os.system", "torch.optim.lr_scheduler.partial"])
def test_configuration_cannot_build_strangers(target):
    with pytest.raises(UserError, match=f"'{target}' may not be built"):
        instantiate(OmegaConf.create({"a": [{"_target_": target, "command": "true"}]}))


def test_every_experiment_composes(configure):
    found = choices("experiment")
    assert len(found) == 1
    for name in found:
        assert configure(f"experiment={name}").strategy._target_.startswith("tl_lightning.strategies.")


def test_gpu_asked_for_where_there_is_none(configure, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"no usable CUDA GPU here; take trainer=cpu"):
        build(configure(*SMALL, "trainer.accelerator=gpu"))


def test_max_epochs_shorter_than_the_phases(configure):
    with pytest.raises(UserError, match="max_epochs=3 is too short"):
        build(configure(*SMALL, "strategy=gradual_unfreeze", "trainer.max_epochs=3"))


def test_unfinished_run_has_no_model(tmp_path):
    with pytest.raises(UserError, match=r"no finished run: model.json is missing"):
        load_model(tmp_path)


def test_linear_probe_is_an_ordinary_run(configure, tmp_path, photos):
    """No epoch, but scores, a checkpoint and a model that gives them again from the folder alone."""
    metrics = train(configure(*SMALL, "strategy=linear_probe", "data.val_fraction=0.25"))
    run = tmp_path / "run"
    assert metrics["epochs"] == 0
    assert "best/epoch" not in metrics
    assert metrics["val/accuracy"] == 1.0
    assert metrics["params/trainable"] == 2 * 1280 + 2
    network, facts = load_model(run)
    assert facts["strategy"]["_target_"].endswith("LinearProbe")
    image = ImageInput(**facts["preprocessing"])
    with (run / "splits.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "val"]
    pixels = torch.stack([eval_transform(image)(load_rgb(photos / r["path"])) for r in rows])
    with torch.no_grad():
        guesses = network(image.normalise(pixels)).argmax(1)
    assert [facts["classes"][i] for i in guesses] == [r["class"] for r in rows]
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
        biases.append(float(bias[0] - bias[1]))
    assert biases[1] > biases[0]


def test_lp_ft_starts_from_the_solved_head(configure, caplog):
    caplog.set_level("INFO")
    solved = ["strategy=lp_ft", "strategy.head_epochs=0", "strategy.norm=eval"]
    parts = build(configure(*SMALL, *solved))
    before = parts.module.head[1].weight.clone()
    _prepare(parts, None)
    assert not torch.equal(parts.module.head[1].weight, before)
    assert "head      solved: leave-one-out accuracy" in caplog.text
    with pytest.raises(UserError, match="only a linear head can be solved exactly"):
        build(configure(*SMALL, *solved, "head=mlp"))
    with pytest.raises(UserError, match=r"strategy.head_epochs=0 on random weights"):
        build(configure(*SMALL, *solved[:2]))
    build(configure(*SMALL, "strategy=lp_ft", "strategy.head_epochs=1", "head=mlp", "trainer.max_epochs=2"))


def test_a_balanced_sampler_weighs_like_class_weights(configure, photos):
    """Drawing rare classes more often and weighing them more are one objective, and solved as one."""
    for path in sorted((photos / "dark").iterdir())[:8]:
        path.unlink()
    found = [build(configure(*SMALL, "data.batch_size=2", o)).data.emphasis()
             for o in ("data.sampler=balanced", "data.class_weights=auto", "data.sampler=none")]  # fmt: skip
    torch.testing.assert_close(found[0], found[1])
    assert found[0][0] > found[0][1]
    torch.testing.assert_close(found[2], torch.ones(2))


def test_resuming_takes_back_rows_of_epochs_after_the_checkpoint(configure, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss,step\n0,1.0,1\n1,0.5,2\n,0.4,3\n2,0.3,4\n")
    _forget(path, 2)
    assert path.read_text().split() == ["epoch,loss,step", "0,1.0,1", "1,0.5,2", ",0.4,3"]


def test_the_last_checkpoint_is_never_older_than_the_best_and_all_ranks_agree(tmp_path, monkeypatch):
    """Saving is collective: the decision is the first rank's, whatever this rank's clock says."""
    saved = []
    monkeypatch.setattr(ModelCheckpoint, "on_train_epoch_end", lambda *a: saved.append(a[1].current_epoch))
    keeper = ModelCheckpoint(tmp_path)

    def trainer(epoch, said=lambda due: due):
        strategy = SimpleNamespace(broadcast=said)
        return SimpleNamespace(
            should_stop=False, current_epoch=epoch, max_epochs=9, checkpoint_callback=keeper, strategy=strategy
        )

    last = LastCheckpoint(apart=1e9, dirpath=tmp_path)
    for epoch, score in ((0, 0.5), (1, 0.5), (2, 0.7), (3, 0.7), (8, 0.7)):
        keeper.best_model_score = torch.tensor(score)
        last.on_train_epoch_end(trainer(epoch), None)
    assert saved == [0, 2, 8]
    last.on_train_epoch_end(trainer(4, lambda due: True), None)
    last.on_train_epoch_end(trainer(8, lambda due: False), None)
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
