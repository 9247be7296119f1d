"""The forgetting meter, against the two networks run by hand."""

import copy
import json

import pytest
import torch
from torch import nn

from tests.small import SMALL
from tests.tiny import STAGES, tiny_data, tiny_module, tiny_trainer
from tl_lightning import optim
from tl_lightning.build import build
from tl_lightning.callbacks.forgetting import Forgetting
from tl_lightning.data.images.transforms import eval_transform
from tl_lightning.features.frozen import Frozen, Options
from tl_lightning.jobs.train import train
from tl_lightning.strategies import FinetuneAll, FinetuneTop
from tl_lightning.strategies.plan import Facts
from tl_lightning.transferability import similarity

FACTS = Facts(pretrained=True, small_rates=True, outputs=2, train_samples=20)


def learner(photos, strategy, lr):
    data, plan = tiny_data(photos), strategy.given(FACTS).plan(STAGES)
    module = tiny_module(plan, data, lr=lr, schedule=optim.constant(warmup=0.0))
    torch.manual_seed(3)
    module.backbone.source_head = nn.Linear(8, 5)
    return module, data


def fit(photos, tmp_path, strategy, lr, cache="off", **options):
    module, data = learner(photos, strategy, lr)
    meter, start = Forgetting(module, **options), copy.deepcopy(module.backbone).eval()
    frozen = Frozen(module.backbone, module.plan, data, Options(cache=cache, engine="eager", dtype="float32"))
    loaders, module.input_stage = frozen.loaders(torch.device("cpu"), 2)
    trainer = tiny_trainer(tmp_path, 2, meter)
    trainer.fit(module, datamodule=loaders)
    return module.eval(), start, data, {k: float(v) for k, v in trainer.callback_metrics.items()}


def by_hand(network, start, data):
    images = data.images("val", eval_transform(data.input), keep=False)
    x = data.input.normalise(torch.stack([images[i, 0][0] for i in range(len(images))]))
    with torch.no_grad():
        pairs = [[b.pooled(i, b.run(x, 0, i + 1)) for i in range(3)] for b in (start, network)]
        logits = [start.source_head(p[-1]) for p in pairs]
    return pairs, logits


@pytest.mark.parametrize(
    "strategy", [FinetuneAll(speed=1.0, decay=1.0, norm="train"), FinetuneTop(speed=1.0, stages=2)]
)
def test_the_meter_reads_what_the_networks_say(strategy, photos, tmp_path):
    module, start, data, found = fit(photos, tmp_path, strategy, 1e-2)
    pairs, logits = by_hand(module.backbone, start, data)
    assert found["forgetting/agreement"] == pytest.approx(similarity.agreement(*logits))
    assert found["forgetting/kl"] == pytest.approx(similarity.divergence(*logits), rel=1e-3)
    for i, name in enumerate(STAGES):
        if not module.plan.learns_ever(name):
            assert f"forgetting/cka/{name}" not in found
            assert found[f"forgetting/distance/{name}"] == 0
            continue
        assert found[f"forgetting/cka/{name}"] == pytest.approx(
            similarity.linear_cka(pairs[0][i], pairs[1][i]), rel=1e-3
        )
        assert found[f"forgetting/shift/{name}"] == pytest.approx(similarity.shift(pairs[0][i], pairs[1][i]), rel=1e-3)
        moved = [getattr(b.net, name)[0].weight for b in (start, module.backbone)]
        assert (moved[0] != moved[1]).any()
        assert found[f"forgetting/distance/{name}"] > 0
        assert (found[f"forgetting/drift/{name}"] > 0) is (module.plan.norm == "train")


def test_a_sanity_check_is_no_measurement(photos, tmp_path):
    """What a few batches before training say of the features is not what the whole split says of them."""
    readings = []
    for steps in (0, 1):
        module, _ = learner(photos, FinetuneTop(speed=1.0, stages=2), 1e-2)
        data, meter = tiny_data(photos, batch_size=1), Forgetting(module)  # batches of two to evaluate
        assert data.samples.size("val") > 2
        trainer = tiny_trainer(tmp_path / str(steps), 1, meter, num_sanity_val_steps=steps)
        torch.manual_seed(5)
        trainer.fit(module, datamodule=data)
        readings.append({k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("forgetting/")})
    assert readings[0] == pytest.approx(readings[1], rel=1e-4)
    assert readings[0][f"forgetting/shift/{STAGES[-1]}"] > 0


def test_cached_rows_give_the_same_reading(photos, tmp_path):
    strategy = FinetuneTop(speed=1.0)
    *_, plain = fit(photos, tmp_path / "a", strategy, 1e-5)
    *_, cached = fit(photos, tmp_path / "b", strategy, 1e-5, cache=1)
    for name in ("agreement", "kl", "cka/block2"):
        assert cached[f"forgetting/{name}"] == pytest.approx(plain[f"forgetting/{name}"], abs=1e-3)


def test_nothing_is_forgotten_where_nothing_moves(photos, tmp_path, caplog):
    *_, found = fit(photos, tmp_path, FinetuneAll(), 0.0)
    assert found["forgetting/agreement"] == 1
    assert found["forgetting/kl"] == pytest.approx(0, abs=1e-6)
    assert [found[f"forgetting/cka/{s}"] for s in STAGES] == pytest.approx([1, 1, 1])
    assert [found[f"forgetting/shift/{s}"] for s in STAGES] == pytest.approx([0, 0, 0], abs=1e-5)
    assert "destroyed" not in caplog.text


def test_destruction_is_warned_of_once(photos, tmp_path, caplog):
    fit(photos, tmp_path, FinetuneAll(speed=1.0, decay=1.0), 0.5, floor=0.9999)
    assert caplog.text.count("features are being destroyed") == 1


def test_few_images_are_spread_over_the_split(photos, tmp_path):
    module, data = learner(photos, FinetuneAll(), 1e-3)
    meter = Forgetting(module, images=2)
    tiny_trainer(tmp_path, 1, meter).fit(module, datamodule=data)
    rows = torch.cat(meter._before[2])
    assert 2 <= len(rows) <= 4
    labels = sorted(label for _, label in data.samples.split("val"))
    assert len(rows) < len(labels)


def test_it_is_in_the_run_where_there_is_something_to_forget(configure, tmp_path, monkeypatch):
    monkeypatch.setattr("tl_lightning.backbones.from_torchvision.formula.size", lambda path: None)  # as if photographs
    words = ["backbone=mobilenet_v2_formula", "backbone.image_size=32", "data.val_fraction=0.25"]
    train(configure(*words, "strategy=finetune_top"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 < metrics["forgetting/cka/stage4"] <= 1
    assert "forgetting/agreement" not in metrics  # these weights have no classifier
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert "forgetting/distance/stage4" in header
    for words in (["strategy=linear_probe"], SMALL):
        parts = build(configure("backbone=mobilenet_v2_formula", "backbone.image_size=32", *words))
        meters = [c for c in parts.trainer.callbacks if isinstance(c, Forgetting)]
        assert [m.source for m in meters] == [None]


def test_what_moves_later_does_not_move_what_is_remembered(photos):
    module, _ = learner(photos, FinetuneAll(), 1e-3)
    meter = Forgetting(module)
    with torch.no_grad():
        module.backbone.net.stem[0].weight.zero_()
    assert meter.source.net.stem[0].weight.abs().sum() > 0
