"""Averaged weights, flat minima, parts of stages: against their definitions, and as runs."""

import copy
import json

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from torch import nn

from tests.commands import refused
from tests.small import SMALL
from tests.test_advisor import script
from tests.tiny import STAGES, tiny_data, tiny_module, tiny_trainer
from tl_lightning import optim
from tl_lightning.backbones import low_rank
from tl_lightning.backbones import torchvision as backbone
from tl_lightning.build import build
from tl_lightning.callbacks.averaging import PowerAverage
from tl_lightning.errors import UserError
from tl_lightning.jobs import average
from tl_lightning.jobs.train import train
from tl_lightning.runs.model import load_model
from tl_lightning.strategies import FinetuneAll
from tl_lightning.strategies.plan import Facts

FACTS = Facts(pretrained=True, small_rates=True, outputs=2, train_samples=20)


def test_power_average_by_its_profile():
    """Weights of past steps fall as (step / now) ** gamma, whatever the length of the run (arXiv:2312.02696)."""
    gamma, steps = 6.94, 400
    callback, shown = PowerAverage(gamma=gamma), []
    for step in range(steps):  # the average of one step's indicator is that step's weight
        averaged = torch.tensor(1.0 if step == 0 else 0.0)
        for later in range(1, steps):
            averaged = callback.average(averaged, torch.tensor(1.0 if later == step else 0.0), later)
        shown.append(float(averaged))
    shares = torch.tensor(shown)
    assert float(shares.sum()) == pytest.approx(1, abs=1e-4)
    expected = (torch.arange(1, steps + 1) / steps) ** gamma
    torch.testing.assert_close(shares / shares[-1], expected.float(), atol=0.03, rtol=0)


class Each(Callback):
    """Keeps every epoch."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}.ckpt")


def test_averaged_weights_are_kept_and_a_resumed_run_goes_on_averaging(photos, tmp_path):
    plan = FinetuneAll().given(FACTS).plan(STAGES)

    def fit(folder, **options):
        module = tiny_module(plan, tiny_data(photos))
        tiny_trainer(folder, 3, PowerAverage(), Each(folder)).fit(module, datamodule=tiny_data(photos), **options)
        return torch.load(folder / "2.ckpt", weights_only=True)

    whole = fit(tmp_path / "whole")
    resumed = fit(tmp_path / "parts", ckpt_path=str(tmp_path / "whole" / "0.ckpt"), weights_only=True)
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, msg=name)
    weight = "backbone.net.block2.0.weight"
    assert not torch.equal(whole["state_dict"][weight], whole["current_model_state"][weight])


def test_sam_takes_the_gradient_uphill():
    """One step on a quadratic: the gradient of x' A x / 2 at x + rho g / |g| is A (x + rho g / |g|)."""
    a, x = torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0])
    weight = nn.Parameter(x.clone())
    optimizer, seen = optim.SAMAdamW([weight], lr=0.1, rho=0.5, weight_decay=0.0), []

    def closure():
        optimizer.zero_grad()
        loss = (a * weight**2).sum() / 2
        loss.backward()
        seen.append((weight.detach().clone(), optim.in_second_pass(optimizer)))
        return loss

    loss = optimizer.step(closure)
    g = a * x
    uphill = x + 0.5 * g / g.norm()
    assert float(loss) == pytest.approx(6.5)
    torch.testing.assert_close(seen[1][0], uphill)
    assert [u for _, u in seen] == [False, True]
    torch.testing.assert_close(weight.grad, a * uphill)
    torch.testing.assert_close(weight.detach(), x - 0.1 * torch.sign(g))  # Adam's first step
    with pytest.raises(ValueError, match="rho=0"):
        optim.SAMAdamW([weight], rho=0)


def test_sam_moves_statistics_once_a_step(photos, tmp_path):
    plan = FinetuneAll(norm="track").given(FACTS).plan(STAGES)
    found = []

    class Look(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            found.append(module.backbone.net.stem[1].running_mean.clone())

    def fit(make, folder):
        found.clear()
        data = tiny_data(photos)
        module = tiny_module(plan, data, lr=1e-12, make=make)
        tiny_trainer(tmp_path / folder, 1, Look()).fit(module, datamodule=data)
        return list(found)

    plain, sam = fit(torch.optim.AdamW, "plain"), fit(optim.SAMAdamW, "sam")
    assert len(plain) == len(sam) > 1
    for a, b in zip(plain, sam, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", ["trainer.accumulate_grad_batches=2", "optimizer.rho=0"])
def test_sam_is_refused_where_it_cannot_be(wrong, configure):
    with pytest.raises(UserError, match=r"rho=0|which trainer.accumulate_grad_batches=2 does not allow: take 1"):
        build(configure(*SMALL, "optimizer=sam", wrong))


@pytest.mark.parametrize(("part", "learn"), [("norm", ("1.weight", "1.bias")), ("bias", ("0.bias", "1.bias"))])
def test_parts_of_stages(part, learn, photos, tmp_path):
    """Only these parameters have gradients, groups and, after training, other values."""
    plan = FinetuneAll(parameters=part).given(FACTS).plan(STAGES)
    data = tiny_data(photos)
    module = tiny_module(plan, data)
    before = {k: v.clone() for k, v in module.backbone.net.named_parameters()}
    module.members.apply(0)
    expected = {f"{stage}.{name}" for stage in STAGES for name in learn}
    assert {n for n, p in module.backbone.net.named_parameters() if p.requires_grad} == expected
    tiny_trainer(tmp_path, 1).fit(module, datamodule=data)
    changed = {n for n, p in module.backbone.net.named_parameters() if not torch.equal(p, before[n])}
    assert changed == expected
    total, learning = module.members.sizes()
    head = sum(p.numel() for p in module.head.parameters())
    assert learning == head + sum(before[n].numel() for n in expected) < total


def test_parts_as_strategies(configure):
    for name, part in (("norm_only", "norm"), ("bitfit", "bias")):
        assert build(configure(*SMALL, f"strategy={name}")).module.plan.parameters == part
    with pytest.raises(UserError, match="parameters=weights is unknown"):
        build(configure(*SMALL, "strategy=finetune_all", "strategy.parameters=weights"))


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "mobilenet_v2"])
def test_low_rank_updates_change_nothing_at_first_and_merge(name):
    """Against the plain network, and, once trained, against weights updated by hand."""
    torch.manual_seed(0)
    with torch.no_grad():
        plain = backbone(name, "formula" if name == "mobilenet_v2" else None, 32).eval()
        adapted = copy.deepcopy(plain)
        assert low_rank.insert(adapted.net, 4, 8.0) > 10
        x = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(adapted(x), plain(x))
        for n, p in adapted.net.named_parameters():
            if n.endswith("lora_b"):
                p.normal_(std=0.02)
        trained = adapted(x)
        assert not torch.allclose(trained, plain(x), atol=1e-4)
        updates = {n: m for n, m in adapted.net.named_modules() if isinstance(m, low_rank.LowRank)}
        for n, m in updates.items():
            owner, _, weight = n.removesuffix(".0").replace(".parametrizations", "").rpartition(".")
            target = getattr(plain.net.get_submodule(owner), weight)
            target += (2.0 * m.lora_b @ m.lora_a).view_as(target)
        torch.testing.assert_close(plain(x), trained, atol=1e-4, rtol=1e-4)
        low_rank.merge(adapted.net)
        torch.testing.assert_close(adapted(x), trained, atol=1e-4, rtol=1e-4)
    assert adapted.net.state_dict().keys() == plain.net.state_dict().keys()


@pytest.mark.parametrize("regularizer", ["none", "l2_sp", "delta"])
def test_a_low_rank_run_writes_a_plain_model(regularizer, configure, tmp_path):
    words = ["backbone=mobilenet_v2_formula", "backbone.image_size=32", "data.val_fraction=0.25"]
    cfg = configure(*words, "strategy=lora", f"regularizer={regularizer}", "trainer.max_epochs=2", "optimizer.lr=0.01")
    metrics = train(cfg)
    assert 0 < metrics["params/trainable"] < 0.5 * metrics["params/total"]
    state = load_file(tmp_path / "run" / "model.safetensors")
    start = backbone("mobilenet_v2", "formula", 32).net.state_dict()
    assert {k for k in state if not k.startswith("head.")} == start.keys()
    changed = {k for k in start if not torch.equal(state[k], start[k])}
    assert changed
    assert all(state[k].shape[2:] == (1, 1) for k in changed)  # 1 x 1 convolutions alone
    model = load_model(tmp_path / "run")
    assert model.facts["strategy"]["rank"] == 8
    assert model.network(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_low_rank_without_a_matrix_is_refused(configure):
    with pytest.raises(UserError, match="strategy=lora: VGG has no linear layer, attention or 1 x 1 convolution"):
        build(configure("backbone=vgg16", "backbone.weights=null", "backbone.image_size=32", "strategy=lora"))


def test_a_head_on_all_stages_fine_tunes_them(configure, tmp_path):
    words = ["backbone=mobilenet_v2_formula", "backbone.image_size=32", "data.val_fraction=0.25"]
    cfg = configure(*words, "strategy=lp_ft", "strategy.taps=true", "strategy.norm=eval")
    parts = build(cfg)
    assert parts.module.backbone.feature_dim == sum(parts.module.backbone.widths()) == 16 + 24 + 32 + 96 + 1280
    train(cfg)
    model = load_model(tmp_path / "run")
    assert model.facts["strategy"]["taps"] is True
    assert model.network(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_interpolation_and_mean():
    a = {"w": torch.zeros(3), "n": torch.tensor(4)}
    b = {"w": torch.ones(3), "n": torch.tensor(6)}
    torch.testing.assert_close(average.interpolate(a, b, 0.3)["w"], torch.full((3,), 0.3))
    assert average.interpolate(a, b, 0.3)["n"] == 6
    torch.testing.assert_close(average.mean_of([a, b])["w"], torch.full((3,), 0.5))
    still = {"x.running_mean": torch.ones(2)}
    assert not average.statistics_differ([still, still])
    assert average.statistics_differ([still, {"x.running_mean": torch.zeros(2)}])


def test_wise_and_soup_choose_on_validation_and_leave_models(configure, tmp_path, photos):
    words = ["backbone=mobilenet_v2_formula", "backbone.image_size=32", "data.val_fraction=0.4", "strategy=lp_ft"]
    for seed in (0, 1):
        cfg = configure(*words, f"seed={seed}", "strategy.norm=track", "strategy.head_epochs=0", run=f"sweep/{seed}")
        train(cfg)
    run = tmp_path / "sweep" / "0"
    found = average.wise(run, steps=4)
    assert list(found) == [0, 0.25, 0.5, 0.75, 1]
    metrics = json.loads((run / "metrics.json").read_text())
    assert found[1] == pytest.approx(metrics["val/accuracy"])  # the run's own model
    kept = json.loads((run / "wise" / "metrics.json").read_text())
    assert kept["val/accuracy"] == max(found.values())
    assert found[kept["alpha"]] == kept["val/accuracy"]
    model = load_model(run / "wise")
    assert model.network(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    chosen = average.soup(tmp_path / "sweep")
    kept = json.loads((tmp_path / "sweep" / "soup" / "metrics.json").read_text())
    best = max(json.loads((tmp_path / "sweep" / s / "metrics.json").read_text())["val/accuracy"] for s in "01")
    assert kept["val/accuracy"] >= best
    if len(chosen) == 2:
        weight = "features.0.0.weight"
        states = [load_file(tmp_path / "sweep" / s / "model.safetensors")[weight] for s in "01"]
        made = load_file(tmp_path / "sweep" / "soup" / "model.safetensors")[weight]
        torch.testing.assert_close(made, sum(states) / 2)


def test_soups_of_what_does_not_mix_are_refused(configure, tmp_path):
    train(configure(*SMALL, "strategy=linear_probe", run="sweep/0"))
    with pytest.raises(UserError, match="holds 1 finished runs: a soup takes at least two"):
        average.soup(tmp_path / "sweep")
    train(configure(*SMALL, "strategy=linear_probe", "data.split_seed=3", run="sweep/1"))
    with pytest.raises(UserError, match="another split than"):
        average.soup(tmp_path / "sweep")
    train(configure(*SMALL, "strategy=feature_extraction", "head=mlp", run="mlp"))
    with pytest.raises(UserError, match="only a linear head can be solved exactly"):
        average.wise(tmp_path / "mlp")
    refused(script("wise", "run=nowhere", cwd=tmp_path), "run=nowhere is no folder")
    refused(script("soup", cwd=tmp_path), "sweep=... must be given")
