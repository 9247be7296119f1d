"""What each strategy lets learn, phase by phase."""

import math

import pytest
import torch

from tl_lightning import heads, optim
from tl_lightning.errors import UserError
from tl_lightning.strategies import (
    EarlyFeatures,
    Facts,
    FeatureExtraction,
    FinetuneAll,
    FinetuneTop,
    GradualUnfreeze,
    LinearProbe,
    LpFt,
    Phase,
    Plan,
)

STAGES = ["stem", "layer1", "layer2", "layer3", "layer4"]
PRETRAINED, RANDOM = Facts(True, True, outputs=2, train_samples=100), Facts(False, False, outputs=2, train_samples=100)


def speeds(strategy, facts=PRETRAINED):
    return [[p.speeds[s] for s in [*STAGES, "head"]] for p in strategy.given(facts).plan(STAGES).phases]


def test_feature_extraction():
    assert speeds(FeatureExtraction()) == [[0, 0, 0, 0, 0, 1]]
    assert speeds(EarlyFeatures()) == [[0, 0, 0, 0, 0, 1]]


def test_finetune_top():
    assert speeds(FinetuneTop()) == [[0, 0, 0, 0, 0.1, 1]]
    assert speeds(FinetuneTop(stages=2, decay=0.5)) == [[0, 0, 0, 0.05, 0.1, 1]]


def test_finetune_all_stays_within_gentle_rates():
    """At the base rate of 1e-3, pretrained stages learn at 1e-5 to 1e-4."""
    (row,) = speeds(FinetuneAll())
    assert row == pytest.approx([0.1 * 0.6**d for d in (4, 3, 2, 1, 0)] + [1])
    assert all(0.01 <= s <= 0.1 for s in row[:-1])


def test_random_weights_have_nothing_to_lose():
    assert speeds(FinetuneAll(), RANDOM) == [[1, 1, 1, 1, 1, 1]]
    assert FinetuneAll().given(RANDOM).plan(STAGES).norm == "train"
    assert FinetuneAll().given(PRETRAINED).plan(STAGES).norm == "eval"
    assert FinetuneAll(speed=0.2, norm="track").given(RANDOM) == FinetuneAll(speed=0.2, decay=1.0, norm="track")


def test_gradual_unfreeze():
    strategy = GradualUnfreeze(every=2, speed=0.1, decay=1.0)
    assert [[s > 0 for s in row] for row in speeds(strategy)] == [
        [d < n for d in (5, 4, 3, 2, 1, 0)] for n in range(1, 7)
    ]
    plan = strategy.given(PRETRAINED).plan(STAGES)
    assert plan.starts == (0, 2, 4, 6, 8, 10)
    assert [plan.index(e) for e in (0, 1, 2, 9, 10, 99)] == [0, 0, 1, 4, 5, 5]
    assert plan.span(5, 12) == (10, 12)
    with pytest.raises(UserError, match=r"max_epochs=10 is too short .* above 10"):
        plan.check_length(10)
    plan.check_length(11)


def test_lp_ft():
    """From a solved head everything learns at once; with epochs for the head, it learns first."""
    assert speeds(LpFt(decay=1.0)) == [[0.1] * 5 + [1]]
    assert speeds(LpFt(head_epochs=2, decay=1.0)) == [[0, 0, 0, 0, 0, 1], [0.1] * 5 + [1]]
    solved = [LpFt(head_epochs=n).given(PRETRAINED).plan(STAGES).solve for n in (0, 2)]
    assert solved == [True, False]


def test_linear_probe_has_no_epochs_but_a_head_to_find():
    plan = LinearProbe().plan(STAGES)
    assert (plan.phases, plan.solve, plan.boundary) == ((), True, 5)
    assert [plan.learns_ever(n) for n in (*STAGES, "head")] == [False] * 5 + [True]
    with pytest.raises(ValueError, match="needs phases"):
        Plan(STAGES, ())


def test_the_boundary_is_the_lowest_stage_that_ever_moves():
    found = {
        s: s.given(PRETRAINED).plan(STAGES).boundary
        for s in (FeatureExtraction(), FinetuneTop(stages=1), FinetuneTop(stages=2), FinetuneAll(), GradualUnfreeze())
    }
    assert list(found.values()) == [5, 4, 3, 0, 0]


@pytest.mark.parametrize("stages", [0, 6])
def test_too_many_stages(stages):
    with pytest.raises(UserError, match=r"strategy.stages=(0 must be|6: this backbone has 5 stages \(stem, layer1)"):
        FinetuneTop(stages=stages).given(PRETRAINED).plan(STAGES)


ALL_ON = {"stem": 0.1, "head": 1.0}


@pytest.mark.parametrize(
    ("phases", "norm", "message"),
    [
        ((), "eval", "needs phases"),
        ((Phase(None, {"head": 1.0}),), "eval", "must give a speed to exactly"),
        ((Phase(None, {**ALL_ON, "stme": 0.0}),), "eval", "must give a speed to exactly"),
        ((Phase(None, {"stem": 0.0, "head": 0.0}),), "eval", "something must learn"),
        ((Phase(None, {"stem": -1.0, "head": 1.0}),), "eval", "not be negative"),
        ((Phase(0, ALL_ON),), "eval", "at least one epoch"),
        ((Phase(None, ALL_ON), Phase(None, ALL_ON)), "eval", "all but the last"),
        ((Phase(None, ALL_ON),), "evil", "norm=evil is unknown"),
    ],
)
def test_plans_that_are_refused(phases, norm, message):
    with pytest.raises(ValueError, match=message):
        Plan(("stem",), phases, norm)


def test_cosine_curve():
    curve = optim.cosine(warmup=0.1, end=0.0)
    values = [curve(t, 100) for t in range(100)]
    assert values[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert values[10] == 1.0
    assert values[55] == pytest.approx(0.5)
    assert values[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert [optim.constant(warmup=0.0)(t, 10) for t in (0, 9)] == [1.0, 1.0]


PRIOR = torch.tensor([0.7, 0.2, 0.1])


@pytest.mark.parametrize("make", [heads.linear, heads.mlp])
def test_heads_start_at_the_prior(make):
    head = make(6, PRIOR.log(), dropout=0.5).eval()
    torch.testing.assert_close(head(torch.randn(4, 6)).softmax(1), PRIOR.expand(4, 3))
    assert make(6, PRIOR.log(), dropout=0.5)[0].p == 0.5


def test_cosine_head_sees_directions_only():
    head = heads.CosineHead(6, PRIOR.log(), scale=10.0).eval()
    x = torch.randn(4, 6)
    torch.testing.assert_close(head(x), head(x * 7))
    expected = 10 * torch.nn.functional.cosine_similarity(x[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(x), expected)
