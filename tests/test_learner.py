"""The five rules of the learner: what every peer breaks."""

import math

import lightning as L
import pytest
import torch
from torch import nn

from tests.tiny import STAGES, Trace, tiny_backbone, tiny_data, tiny_module, tiny_trainer
from tl_lightning import optim
from tl_lightning.reports import phase_table
from tl_lightning.strategies import FeatureExtraction, FinetuneAll, FinetuneTop, GradualUnfreeze, LpFt, Phase, Plan

GENTLE = {"speed": 0.1, "decay": 0.5, "norm": "eval"}


def snapshot(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def moved(before, module):
    return {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}


@pytest.fixture
def data(photos):
    return tiny_data(photos)


# Rule 1: all groups from step 0, named, constant.


@pytest.mark.parametrize("strategy", [GradualUnfreeze(every=1, **GENTLE), LpFt(head_epochs=2, **GENTLE)])
def test_groups_and_rates_over_a_phased_run(strategy, data, tmp_path):
    """Names and number never change; every rate is schedule(step in phase) x speed x base, computed here by hand."""
    epochs, lr = 5, 1e-2
    plan = strategy.plan(STAGES)
    module, trace = tiny_module(plan, data, lr), Trace()
    trainer = tiny_trainer(tmp_path, epochs, trace)
    trainer.fit(module, datamodule=data)
    owners = [*STAGES, "head"]
    assert [list(r) for r in trace.rates] == [[f"{o}{s}" for o in owners for s in ("", "/no_decay")]] * len(trace.rates)
    per_epoch = len(trace.rates) // epochs
    assert per_epoch == sum(data.samples.counts("train")) // 4
    for step, rates in enumerate(trace.rates):
        index = plan.index(step // per_epoch)
        first, after = plan.span(index, epochs)
        length, t = (after - first) * per_epoch, step - first * per_epoch
        rise = math.ceil(0.05 * length)
        shape = (t + 1) / (rise + 1) if t < rise else 0.5 * (1 + math.cos(math.pi * (t - rise) / (length - rise)))
        for owner in owners:
            expected = lr * plan.phases[index].speeds[owner] * shape
            assert rates[owner] == pytest.approx(expected, abs=1e-12)
            assert rates[f"{owner}/no_decay"] == rates[owner]


def test_frozen_groups_hold_no_optimizer_state(data, tmp_path):
    plan = LpFt(head_epochs=1, **GENTLE).plan(STAGES)
    sizes = []

    class Count(L.Callback):
        def on_train_epoch_end(self, trainer, module):
            sizes.append(len(trainer.optimizers[0].state))

    module = tiny_module(plan, data)
    tiny_trainer(tmp_path, 2, Count()).fit(module, datamodule=data)
    assert sizes == [2, 2 + 3 * 4]


def test_every_parameter_is_in_one_group_and_norms_are_not_decayed():
    named = list(tiny_backbone().net.named_parameters())
    groups = optim.param_groups([("all", named)])
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for _, p in named)
    assert {p.ndim for p in groups[0]["params"]} == {4}
    assert {p.ndim for p in groups[1]["params"]} == {1}
    assert groups[1]["weight_decay"] == 0.0


def test_equal_valued_parameters_are_told_apart():
    """Two BatchNorms of equal values: membership goes by identity (by value, the second would be lost)."""
    twins = nn.ModuleList([nn.BatchNorm1d(4), nn.BatchNorm1d(4)])
    groups = optim.param_groups([("a", list(twins[0].named_parameters())), ("b", list(twins[1].named_parameters()))])
    assert [len(g["params"]) for g in groups] == [2, 2]


# Rule 2: the trainable set is a pure function of progress; resuming changes nothing.


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_resume_at_any_epoch_equals_never_stopping(stop, make, photos, tmp_path):
    plan = GradualUnfreeze(every=1, **GENTLE).plan(STAGES)
    epochs = 5

    def fresh():
        return tiny_module(plan, tiny_data(photos), make=make), tiny_data(photos), Trace()

    module, data, whole = fresh()
    tiny_trainer(tmp_path / "whole", epochs, whole).fit(module, datamodule=data)
    expected = snapshot(module)

    class Stop(L.Callback):  # max_epochs shapes the schedule, so the first part ends by a stop, as a kill would
        def on_train_epoch_end(self, trainer, module):
            trainer.should_stop = trainer.current_epoch + 1 == stop

    module, data, first = fresh()
    tiny_trainer(tmp_path / "part", epochs, first, Stop()).fit(module, datamodule=data)
    module, data, second = fresh()
    checkpoint = tmp_path / "part" / "checkpoints" / "last.ckpt"
    tiny_trainer(tmp_path / "part", epochs, second).fit(
        module, datamodule=data, ckpt_path=str(checkpoint), weights_only=True
    )
    assert len(first.rates) == stop * len(whole.rates) // epochs
    assert first.rates + second.rates == whole.rates
    assert first.open + second.open == whole.open
    assert moved(expected, module) == set()


# Rule 3: frozen means eval.


def test_frozen_weights_and_buffers_are_bit_identical_after_training(data, tmp_path):
    module = tiny_module(FinetuneTop(stages=1, **GENTLE).plan(STAGES), data)
    before = snapshot(module)
    tiny_trainer(tmp_path, 2).fit(module, datamodule=data)
    changed = moved(before, module)
    assert not any("stem" in k or "block1" in k for k in changed)
    assert {"backbone.net.block2.0.weight", "backbone.net.block2.1.weight", "head.1.weight"} <= changed
    assert not any("running" in k for k in changed)  # norm=eval keeps statistics of learning stages too


def test_frozen_output_in_training_equals_eval(data, tmp_path):
    """In the middle of a training step the frozen stages give bit for bit what they give in eval mode."""

    def look(module, batch):
        with torch.no_grad():
            training = module.backbone.run(batch.inputs, 0, 2)
            modes = [m.training for m in module.modules()]
            module.eval()
            evaluated = module.backbone.run(batch.inputs, 0, 2)
            for m, mode in zip(module.modules(), modes, strict=True):
                m.training = mode
        return torch.equal(training, evaluated)

    trace = Trace(look)
    module = tiny_module(FinetuneTop(stages=1, **GENTLE).plan(STAGES), data)
    tiny_trainer(tmp_path, 3, trace).fit(module, datamodule=data)
    assert len(trace.seen) > 3
    assert all(trace.seen)


def test_a_trainer_of_ones_own_obeys_the_plan(data, tmp_path):
    """Nothing of the package has to be remembered: the module brings what enforces its plan."""
    module = tiny_module(FinetuneTop(stages=1, **GENTLE).plan(STAGES), data)
    before = snapshot(module)
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **off).fit(module, data)
    changed = moved(before, module)
    assert "backbone.net.block2.0.weight" in changed
    assert not any("stem" in k or "block1" in k for k in changed)


@pytest.mark.parametrize(
    ("norm", "statistics", "scale"), [("eval", False, True), ("track", True, False), ("train", True, True)]
)
def test_norm_switch(norm, statistics, scale, data, tmp_path):
    plan = FinetuneAll(speed=0.1, decay=0.5, norm=norm).plan(STAGES)
    module = tiny_module(plan, data)
    before = snapshot(module)
    tiny_trainer(tmp_path, 1).fit(module, datamodule=data)
    changed = moved(before, module)
    assert ("backbone.net.stem.1.running_mean" in changed) is statistics
    assert ("backbone.net.stem.1.weight" in changed) is scale
    assert "backbone.net.stem.0.weight" in changed


@pytest.mark.parametrize("pretrained", [False, True])
def test_random_weights_take_statistics_from_their_first_batch(pretrained, data, tmp_path):
    norm, seen, momenta = [], [], []

    class Look(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            momenta.append(module.backbone.net.stem[1].momentum)
            with torch.no_grad():
                norm.append(module.backbone.net.stem[0](batch.inputs).mean((0, 2, 3)))

        def on_train_batch_end(self, trainer, module, *args):
            seen.append(module.backbone.net.stem[1].running_mean.clone())

    module = tiny_module(FinetuneAll(1.0, 1.0, "train").plan(STAGES), data, pretrained=pretrained)
    tiny_trainer(tmp_path, 1, Look()).fit(module, datamodule=data)
    torch.testing.assert_close(seen[0], norm[0] * (0.1 if pretrained else 1.0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(seen[1], 0.9 * seen[0] + 0.1 * norm[1], rtol=1e-5, atol=1e-6)
    assert set(momenta) == {0.1}


def test_refrozen_stage_stops_at_once(data, tmp_path):
    """A stage frozen again keeps still although the optimizer holds its momentum and weight decay."""
    on = {"stem": 0.0, "block1": 0.0, "block2": 0.1, "head": 1.0}
    plan = Plan(STAGES, (Phase(1, on), Phase(None, {**on, "block2": 0.0})))
    after_first = {}

    class Look(L.Callback):
        def on_train_epoch_end(self, trainer, module):
            if trainer.current_epoch == 0:
                after_first.update(snapshot(module))

    module = tiny_module(plan, data)
    tiny_trainer(tmp_path, 3, Look()).fit(module, datamodule=data)
    assert {k.split(".")[0] for k in moved(after_first, module)} == {"head"}


# Rule 4: real rates per group; ratios survive.


def test_ratios_survive_the_schedule(data, tmp_path):
    trace = Trace()
    module = tiny_module(FinetuneAll(**GENTLE).plan(STAGES), data)
    tiny_trainer(tmp_path, 2, trace).fit(module, datamodule=data)
    for rates in trace.rates:
        assert rates["block2"] / rates["head"] == pytest.approx(0.1)
        assert rates["stem"] / rates["block1"] == pytest.approx(0.5)


@pytest.mark.parametrize("make,lr,warned", [
    (torch.optim.AdamW, 1e-3, False), (torch.optim.AdamW, 1e-2, True),
    (torch.optim.SGD, 0.1, False), (torch.optim.SGD, 1.0, True),
])  # fmt: skip
def test_rough_rates_warn_with_the_number(make, lr, warned, data, tmp_path, caplog):
    module = tiny_module(FinetuneAll(speed=0.1, decay=0.5, norm="eval").plan(STAGES), data, lr, make=make)
    tiny_trainer(tmp_path, 1).fit(module, datamodule=data)
    assert (f"at a rate of {0.1 * lr:.1e}" in caplog.text and "catastrophic forgetting" in caplog.text) is warned


def test_accumulated_gradients_keep_phases_aligned(data, tmp_path):
    """With accumulation the optimizer steps less often; a phase still starts at its epoch."""
    plan = LpFt(head_epochs=1, **GENTLE).plan(STAGES)
    module, trace = tiny_module(plan, data), Trace()
    tiny_trainer(tmp_path, 2, trace, accumulate_grad_batches=3).fit(module, datamodule=data)
    half = len(trace.rates) // 2
    assert all(r["stem"] == 0 for r in trace.rates[:half])
    assert all(r["stem"] > 0 for r in trace.rates[half:])


# What else a phase change can break.


def test_compiled_backbone_trains_after_unfreezing(data, tmp_path):
    """Code compiled while a stage was frozen must not keep it frozen (pytorch#139476)."""
    module = tiny_module(LpFt(head_epochs=1, **GENTLE).plan(STAGES), data)
    module.backbone.compile(backend="aot_eager")
    before = snapshot(module)
    tiny_trainer(tmp_path, 2).fit(module, datamodule=data)
    assert "backbone.net.stem.0.weight" in moved(before, module)


def test_phase_table_names_every_stage(data):
    module = tiny_module(FinetuneTop(stages=1, **GENTLE).plan(STAGES), data)
    module.members.apply(0)
    rows = phase_table.table(module, 0, base=1e-2)
    assert [r[0] for r in rows] == [*STAGES, "head"]
    assert [r[2] for r in rows[:2]] == ["0", "0"]
    assert rows[2][1:] == ("456", "456", "1.0e-03", "eval")  # 6*8*9 weights + 8 biases + 16 of the norm
    assert [r[4] for r in rows] == ["frozen", "frozen", "eval", "-"]


def test_feature_extraction_trains_the_head_alone(data, tmp_path):
    module = tiny_module(FeatureExtraction().plan(STAGES), data)
    before = snapshot(module)
    tiny_trainer(tmp_path, 1).fit(module, datamodule=data)
    assert moved(before, module) == {"head.1.weight", "head.1.bias"}
    assert module.members.sizes() == (sum(p.numel() for p in module.parameters()), 8 * 2 + 2)


def test_plan_and_backbone_must_agree(data):
    with pytest.raises(ValueError, match="the plan is for stages"):
        tiny_module(FeatureExtraction().plan(("stem", "block1")), data)
