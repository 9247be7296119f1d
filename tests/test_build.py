"""What a configuration builds, and what it is refused."""

import pytest
import torch

from tests.small import SMALL
from tl_lightning import targets
from tl_lightning.backbones import Backbone
from tl_lightning.build import build
from tl_lightning.errors import UserError
from tl_lightning.jobs.train import train
from tl_lightning.options import options
from tl_lightning.runs.model import load_model


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


SAID = [
    ("strategy=early_features strategy.upto=layer2", "no stage 'layer2'.*stage2"),
    ("strategy=gradual_unfreeze", "max_epochs=1 is too short"),
    ("data.batch_size=0", "data.batch_size=0 must be a whole number of at least 1"),
    ("backbone.weights=gone.pth", "weights file gone.pth does not exist"),
    ("trainer.max_epochs=two", "trainer.max_epochs"),
    ("head.dropout=2", "head: dropout probability"),
    ("backbone.name=resnet50x", "resnet50x"),
    ("optimizer.lr=abc", "optimizer, given lr=abc"),
]


@pytest.mark.parametrize(("words", "said"), SAID)
def test_what_is_said_of_bad_values(words, said, configure):
    with pytest.raises(UserError, match=said):
        build(configure(*SMALL, *words.split()))


BAD_VALUES = ["data.batch_size=2.5", "data.workers=-1", "seed=null", "label_smoothing=2", "augment.min_scale=2",
              "strategy.speed=abc", "trainer.log_every_n_steps=0", "trainer.accumulate_grad_batches=0",
              "data.max_per_class=0", "trainer.strategy=finetune_top", "+trainer.foo=1", "+optimizer.foo=1",
              "backbone.image_size=64.5", "schedule.warmup=2", "+trainer.limit_val_batches=0", "data.sampler=fair",
              "+trainer.check_val_every_n_epoch=2", "+trainer.sync_batchnorm=true", "trainer.devices=0",
              "trainer.strategy=fsdp",
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
    assert parts.data.samples.counts("train") == [3, 3]
    torch.testing.assert_close(parts.module.task.weights, torch.tensor([4 / 3, 2 / 3]))


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
        targets.build({"a": [{"_target_": target, "command": "true"}]})


def test_every_experiment_composes(configure):
    found = options("experiment")
    assert len(found) == 1
    for name in found:
        assert configure(f"experiment={name}").strategy["_target_"].startswith("tl_lightning.strategies.")


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
