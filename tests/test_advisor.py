"""The facts that advice rests on, and the table that it is read from."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.commands import REPO, refused, tl
from tests.frozen import CPU, warmed
from tests.small import SMALL
from tests.tiny import STAGES, tiny_data
from tl_lightning import targets
from tl_lightning.backbones.taps import read_all_stages
from tl_lightning.build import build
from tl_lightning.config.compose import option
from tl_lightning.data import splits
from tl_lightning.data.images.transforms import eval_transform
from tl_lightning.features.cost import activation_bytes
from tl_lightning.features.facts import drift, measure
from tl_lightning.features.frozen import Options
from tl_lightning.features.views import View
from tl_lightning.jobs.rank import Rank
from tl_lightning.jobs.train import train
from tl_lightning.jobs.trials import attempt
from tl_lightning.reports.advice import pareto
from tl_lightning.runs.folder import RunFolder
from tl_lightning.strategies import FinetuneAll, LpFt
from tl_lightning.strategies.plan import Facts
from tl_lightning.transferability.evidence import Evidence, Likeness, Tap


def auto(**changes):
    """The table as it is, with size and likeness told at 50 images and a lead of 0."""
    return targets.build({**option("strategy", "auto"), "few": 50, "alike": 0.0, **changes})


def evidence(per_class=100, last=0.9, early=0.8):
    taps = [Tap(n, 8, a, a, 0.0, 0.0) for n, a in (("stem", 0.3), ("middle", early), ("top", last), ("all", 0.9))]
    return Evidence(2, int(2 * per_class), per_class, tuple(taps), {}, None)


def facts(gentle=True, **found):
    return Facts(gentle, gentle, outputs=2, train_samples=20, evidence=evidence(**found))


def test_the_table_is_read_by_size_and_likeness():
    table = auto(small_alike={"_target_": "tl_lightning.strategies.LinearProbe"},
                 large_alike={"_target_": "tl_lightning.strategies.LpFt"},
                 small_different={"_target_": "tl_lightning.strategies.EarlyFeatures"},
                 large_different={"_target_": "tl_lightning.strategies.FinetuneAll"})  # fmt: skip
    found = {
        (few, alike): type(table.advise(facts(per_class=few, last=0.9 if alike else 0.7)).strategy).__name__
        for few in (49, 50)
        for alike in (True, False)
    }
    assert found == {(49, True): "LinearProbe", (49, False): "EarlyFeatures",
                     (50, True): "LpFt", (50, False): "FinetuneAll"}  # fmt: skip


def test_open_values_of_the_advised_strategy_are_filled_in():
    advice = auto(large_alike={"_target_": "tl_lightning.strategies.LpFt"}).advise(facts())
    assert advice.strategy == LpFt(speed=0.1, decay=0.6, norm="eval", head_epochs=0, taps=False)
    assert [line.split()[0] for line in advice.reasons] == ["size", "likeness", "follow"]


def test_co_tuning_is_proposed_where_few_images_meet_a_classifier():
    known = Likeness(-0.1, -0.1, 0.2, {})
    for per_class, likeness, proposed in ((50, known, True), (51, known, False), (50, None, False)):
        given = facts(per_class=per_class, last=0.7)
        given.evidence = replace(given.evidence, likeness=likeness)
        advice = auto().advise(given)
        assert advice.strategy == FinetuneAll(speed=0.1, decay=1.0, norm="eval", taps=True)
        assert ("regularizer=co_tuning" in advice.lines[-1]) is proposed


def test_trials_decide_between_the_two_of_a_size():
    asked = []

    def attempt(strategy, seconds):
        asked.append((type(strategy).__name__, seconds))
        return {"LinearProbe": 0.7, "FinetuneAll": 0.8}[type(strategy).__name__]

    table = auto(small_alike={"_target_": "tl_lightning.strategies.LinearProbe"},
                 small_different={"_target_": "tl_lightning.strategies.FinetuneAll"}, trial_seconds=5)  # fmt: skip
    given = facts(per_class=10)
    given.attempt = attempt
    advice = table.advise(given)
    assert isinstance(advice.strategy, FinetuneAll)
    assert sorted(asked) == [("FinetuneAll", 5), ("LinearProbe", 5)]
    assert "0.700 (alike), 0.800 (different)" in advice.reasons[2]


def test_a_trial_trains_on_training_images_alone(configure, monkeypatch):
    parts = build(configure(*SMALL, "strategy=linear_probe"))
    cfg = configure(*SMALL, "strategy=auto")
    seen = []
    write = splits.write
    monkeypatch.setattr(splits, "write", lambda items, path: (seen.append(list(items)), write(items, path)))
    accuracy = attempt(train, cfg, parts.data, FinetuneAll().given(facts()), 2.0)
    training = {i.path for i in parts.data.samples.items if i.split == "train"}
    assert {i.path for i in seen[0]} == training
    assert [sum(i.split == s for i in seen[0]) for s in ("train", "val", "test")] == [16, 4, 0]
    assert accuracy in [n / 4 for n in range(5)]  # of the four that were held out


def test_weights_that_know_no_photographs_are_not_measured():
    def measured():
        raise AssertionError("there is nothing to measure")

    for pretrained in (True, False):
        advice = auto().advise(Facts(pretrained, False, outputs=2, train_samples=20, measure=measured))
        assert isinstance(advice.strategy, FinetuneAll)
        assert advice.strategy.speed == 1.0


def test_the_facts_are_those_of_each_stage_alone(photos):
    """Against the stages' outputs computed one by one; the last row of the cached pass is the features themselves."""
    network, data = warmed(), tiny_data(photos)
    found = measure(network, data, Options(engine="fused", dtype="float32"), CPU)
    assert [t.name for t in found.taps] == [*STAGES, "all"]
    assert [t.width for t in found.taps] == [4, 6, 8, 18]
    assert found.likeness is None
    images = data.images("train", eval_transform(data.input), keep=False)
    pixels = torch.stack([images[i, 0][0] for i in range(len(images))])
    x = data.input.normalise(pixels)
    with torch.no_grad():
        rows = read_all_stages(network, scaled=False)(x)
        parts = [network.pooled(i, network.run(x, 0, i + 1)) for i in range(3)]
    torch.testing.assert_close(rows, torch.cat(parts, 1))
    torch.testing.assert_close(rows[:, -8:], network(x))
    from tl_lightning.transferability import evidence as of

    labels = data.samples.targets("train")
    for tap, part in zip(found.taps, parts, strict=False):
        again = of.tap(tap.name, part.numpy(), labels)
        assert (tap.accuracy, tap.nearest) == (again.accuracy, again.nearest)
        assert tap.logme == pytest.approx(again.logme, abs=1e-3)


def test_drift_is_zero_on_the_images_that_the_statistics_are_of(photos):
    data, network = tiny_data(photos), warmed()
    view = View(eval_transform(data.input))
    images = data.images("train", view.transform, keep=False)
    picked = np.linspace(0, len(images) - 1, 16).astype(int)
    pixels = data.input.normalise(torch.stack([images[int(i), 0][0] for i in picked]))
    far = drift(network, data, view, CPU)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    for _ in range(3):  # one layer after the other comes to rest
        network(pixels)
    network.eval()
    near = drift(network, data, view, CPU)
    assert list(near) == list(STAGES)
    assert all(near[s] < 0.01 < far[s] for s in STAGES)  # the unbiased variance is a little larger


def test_an_advised_run_follows_and_records_the_advice(configure, tmp_path, caplog):
    caplog.set_level("INFO")
    cfg = configure(*SMALL, "strategy=auto", "backbone.weights=formula", "data.val_fraction=0.25")
    parts = build(cfg)
    assert parts.strategy == FinetuneAll(speed=1.0, decay=1.0, norm="train")
    assert parts.evidence is None
    train(cfg)
    saved = RunFolder(tmp_path / "run").config()
    assert saved["strategy"]["_target_"] == "tl_lightning.strategies.FinetuneAll"
    assert json.loads((tmp_path / "run" / "model.json").read_text())["strategy"]["norm"] == "train"
    assert "advice    follow" in caplog.text


def test_advised_by_evidence(photos, configure, tmp_path, monkeypatch):
    """The picture and the numbers are in the run's folder; a resumed run takes the strategy, not the advice."""
    monkeypatch.setattr("tl_lightning.build.measure", lambda *a: evidence(per_class=9, last=0.9))
    monkeypatch.setattr("tl_lightning.backbones.from_torchvision.formula.size", lambda path: None)  # as if photographs
    cfg = configure(*SMALL, "strategy=auto", "backbone.weights=formula", "data.val_fraction=0.25",
                    "strategy.small_alike._target_=tl_lightning.strategies.LinearProbe")  # fmt: skip
    train(cfg)
    facts = json.loads((tmp_path / "run" / "advice.json").read_text())
    assert facts["taps"][2]["accuracy"] == 0.9
    assert (tmp_path / "run" / "advice.png").stat().st_size > 5_000
    assert RunFolder(tmp_path / "run").config()["strategy"]["_target_"].endswith("LinearProbe")


def test_rank_intervals_and_front():
    low, high = Rank("a", 0.9, 100, 0, 0, 1, 1.0, 1, "mit").interval
    assert (low, high) == (pytest.approx(0.8256, abs=1e-3), pytest.approx(0.9448, abs=1e-3))  # Wilson, by hand
    assert pareto([(10, 0.9), (20, 0.8), (5, 0.85), (20, 0.7)]) == [True, True, False, False]


def test_activations_of_a_layer_by_hand():
    network = warmed()
    found = activation_bytes(network)
    shapes = [3 * 16 * 16, 4 * 8 * 8, 6 * 4 * 4]  # what each convolution is given
    assert found >= 4 * sum(shapes)
    assert found < 4 * 12 * sum(shapes)


def script(name, *words, cwd):
    return tl(*words, cwd=cwd, program=(sys.executable, str(REPO / "scripts" / f"{name}.py")))


def test_advise_and_rank_from_the_command_line(photos, tmp_path):
    said = script("advise", f"data.root={photos}", "backbone=mobilenet_v2_formula", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "follow    FinetuneAll(speed=1.0" in said.stdout
    two = "backbones=[mobilenet_v2_formula,resnet18]"
    ranked = script("rank", f"data.root={photos}", two, "backbone.image_size=32", cwd=tmp_path)
    assert ranked.returncode == 0, ranked.stderr
    assert "| `mobilenet_v2_formula` | " in ranked.stdout
    assert "resnet18: not ranked, its weights ResNet18_Weights.IMAGENET1K_V1 are not on this machine" in ranked.stdout
    assert (tmp_path / "rank.png").stat().st_size > 5_000
    assert {p.name for p in tmp_path.iterdir()} == {"photos", "rank.png"}  # no run was begun
    refused(script("rank", f"data.root={photos}", cwd=tmp_path), "backbones=[a,b] must name some of")
    refused(script("advise", "data.root=nowhere", cwd=tmp_path), "data.root=nowhere does not exist")
    refused(script("advise", f"data.root={photos}", "backbone=resnet19", cwd=tmp_path), "resnet18")
