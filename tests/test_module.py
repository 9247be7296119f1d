"""Loss, scores and schedule of the learner, each against an independent computation."""

import lightning as L
import pytest
import torch
import torch.nn.functional as F

from tests.tiny import STAGES, Trace, tiny_data, tiny_module, tiny_trainer
from tl_lightning.batch import Batch
from tl_lightning.callbacks import phases
from tl_lightning.data import ImageAugmentation
from tl_lightning.strategies import FeatureExtraction, FinetuneAll, LpFt
from tl_lightning.tasks import Classification

GENTLE = {"speed": 0.1, "decay": 0.5, "norm": "eval"}


def probe(photos, **options):
    data = tiny_data(photos)
    return tiny_module(FeatureExtraction().plan(STAGES), data, **options), data


def test_training_loss_smooths_labels_and_weighs_classes(photos):
    """Cross-entropy written out: -sum(w_c q_c log p_c) / sum(w of the labels), as torch documents it."""
    weights = torch.tensor([2.0, 0.5])
    module, _ = probe(photos, task=Classification(("dark", "light"), label_smoothing=0.2, weights=weights))
    module.eval()
    torch.nn.init.normal_(module.head[1].weight)
    module._record = lambda *args: None  # writes to a trainer that is not here
    module._window_share = lambda batch_idx: 1.0
    images, labels = torch.randn(6, 3, 16, 16), torch.tensor([0, 0, 1, 0, 1, 1])
    log_p = module(images).log_softmax(1)
    smooth = F.one_hot(labels, 2) * 0.8 + 0.2 / 2
    expected = -(weights * smooth * log_p).sum() / weights[labels].sum()
    torch.testing.assert_close(module.training_step(Batch(images, labels, torch.arange(6)), 0), expected)


def test_scores_are_of_one_epoch_and_weigh_images_alike(photos, tmp_path):
    """Batches of unequal size, two epochs with different weights: each epoch's score equals a fresh computation."""
    module, data = probe(photos)
    data.batch_size = 3  # 4 validation images: batches of 2 and 2, or 3 and 1
    found = []

    class Check(L.Callback):
        def on_train_epoch_end(self, trainer, module):
            module.eval()
            with torch.no_grad():
                batches = list(data.val_dataloader())
                logits = torch.cat([module(data.input.normalise(b.inputs)) for b in batches])
                labels = torch.cat([b.targets for b in batches])
            values = trainer.callback_metrics
            found.append(float(values["val/loss"]))
            assert float(values["val/loss"]) == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
            assert float(values["val/accuracy"]) == float((logits.argmax(1) == labels).float().mean())
            module.train()

    tiny_trainer(tmp_path, 3, Check()).fit(module, datamodule=data)
    assert len(set(found)) == 3


def test_a_class_absent_from_validation_has_no_recall(photos, tmp_path):
    module, data = probe(photos)
    for item in [i for i in data.samples.items if i.split == "val" and i.label == "dark"]:
        data.samples.__dict__["items"] = tuple(i for i in data.samples.items if i is not item)
    trainer = tiny_trainer(tmp_path, 1)
    trainer.fit(module, datamodule=data)
    assert "val/recall/light" in trainer.callback_metrics
    assert "val/recall/dark" not in trainer.callback_metrics


def test_mixing_reaches_training_batches_alone(photos, tmp_path):
    data = tiny_data(photos, augment=ImageAugmentation(cutmix=1.0))
    module = tiny_module(FeatureExtraction().plan(STAGES), data)
    shapes = {"train": set(), "val": set()}

    class Look(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            shapes["train"].add(batch.targets.ndim)

        def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            shapes["val"].add(batch.targets.ndim)

    tiny_trainer(tmp_path, 1, Look()).fit(module, datamodule=data)
    assert shapes == {"train": {2}, "val": {1}}


def test_extending_a_run_recomputes_the_rate_of_its_first_step(photos, tmp_path):
    """A checkpoint made at the end of a cosine holds a rate of 0; with more epochs the schedule is another."""
    plan = FinetuneAll(**GENTLE).plan(STAGES)
    module = tiny_module(plan, tiny_data(photos))
    tiny_trainer(tmp_path, 2).fit(module, datamodule=tiny_data(photos))
    module, trace = tiny_module(plan, tiny_data(photos)), Trace()
    trainer = tiny_trainer(tmp_path, 4, trace)
    trainer.fit(module, datamodule=tiny_data(photos), ckpt_path=str(tmp_path / "checkpoints" / "last.ckpt"))
    assert trace.rates[0]["head"] == pytest.approx(1e-2 * module.schedule(10, 20))
    assert trace.rates[0]["head"] > 1e-3


def test_max_steps_ends_a_run_without_bending_its_schedule(photos, tmp_path):
    plan = LpFt(head_epochs=2, **GENTLE).plan(STAGES)
    traces = []
    for options in ({}, {"max_steps": 12}):
        traces.append(Trace())
        tiny_trainer(tmp_path, 4, traces[-1], **options).fit(
            tiny_module(plan, tiny_data(photos)), datamodule=tiny_data(photos)
        )
    assert len(traces[1].rates) == 12
    assert traces[1].rates == traces[0].rates[:12]


def test_a_phase_change_resets_compiled_code(photos, tmp_path, monkeypatch):
    resets = []
    monkeypatch.setattr(phases.torch.compiler, "reset", lambda: resets.append(1))
    module = tiny_module(LpFt(head_epochs=1, **GENTLE).plan(STAGES), tiny_data(photos))
    tiny_trainer(tmp_path, 3).fit(module, datamodule=tiny_data(photos))
    assert len(resets) == 1


def test_frozen_parameters_hold_no_stale_gradient(photos):
    module, _ = probe(photos)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    module.members.apply(0)
    with_gradient = {n for n, p in module.named_parameters() if p.grad is not None}
    assert with_gradient == {"head.1.weight", "head.1.bias"}


def test_random_weights_thawed_late_take_statistics_then(photos, tmp_path):
    """With lp_ft the stages see their first batch in training mode at their phase's start."""
    seen = {}

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, module, *args):
            seen.setdefault(trainer.current_epoch, module.backbone.net.stem[1].running_var.clone())

    plan = LpFt(head_epochs=1, speed=1.0, decay=1.0, norm="train").plan(STAGES)
    module = tiny_module(plan, tiny_data(photos), pretrained=False)
    tiny_trainer(tmp_path, 2, Look()).fit(module, datamodule=tiny_data(photos))
    assert torch.equal(seen[0], torch.ones(4))
    assert not torch.isclose(seen[1], torch.tensor(0.9), atol=0.11).all()  # 0.9 x the placeholder + 0.1 x the batch's
    assert (seen[1] < 0.5).any()
