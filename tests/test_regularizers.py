"""Terms beside cross-entropy: their values by hand, and that they go with every strategy, the cache and resuming."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.small import SMALL
from tests.tiny import STAGES, tiny_backbone, tiny_data, tiny_module, tiny_trainer
from tl_lightning import heads, optim, targets
from tl_lightning.build import build
from tl_lightning.config.compose import option
from tl_lightning.errors import UserError
from tl_lightning.options import options
from tl_lightning.regularizers import BSS, L2SP, CoTuning, Delta, LwF, Pass
from tl_lightning.strategies import FinetuneAll, FinetuneTop, GradualUnfreeze, LpFt
from tl_lightning.strategies.plan import Facts

FACTS = Facts(pretrained=True, small_rates=True, outputs=2, train_samples=20)
ALL = [L2SP, LwF, CoTuning, Delta, BSS]


def known_backbone():
    """The tiny backbone in evaluation mode, with a classifier of five source classes."""
    backbone = tiny_backbone().eval()
    torch.manual_seed(3)
    backbone.source_head = nn.Linear(8, 5)
    return backbone


def seen(backbone, labels=None, entry=0):
    torch.manual_seed(4)
    x = backbone.run(torch.randn(6, 3, 16, 16), 0, entry)
    outputs, entered = [], x
    for stage in backbone.stages[entry:]:
        x = stage.run(backbone.net, x)
        outputs.append(x)
    outputs[-1] = outputs[-1].mean((2, 3))
    targets = torch.tensor([0, 1, 0, 1, 0, 1]) if labels is None else labels
    return Pass(entry, entered, outputs, outputs[-1], targets)


def moved(backbone, by=0.1):
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        for p in other.net.parameters():
            p.add_(by)
    return other


HEAD = heads.linear(8, torch.tensor([0.5, 0.5]).log())


def test_nothing_moved_costs_nothing():
    backbone = known_backbone()
    for term in (L2SP(backbone, head_strength=0.0), LwF(backbone), Delta(backbone, head_strength=0.0)):
        assert float(term(seen(backbone), backbone, HEAD)) == pytest.approx(0, abs=1e-5)


def test_l2_sp_by_hand():
    backbone = known_backbone()
    term, there = L2SP(backbone, strength=0.2, head_strength=0.0), moved(backbone)
    count = sum(p.numel() for p in backbone.net.parameters())
    assert float(term(seen(there), there, HEAD)) == pytest.approx(0.1 * 0.01 * count, rel=1e-4)
    there.net.stem.requires_grad_(False)  # what is frozen cannot be held to anything
    count -= sum(p.numel() for p in there.net.stem.parameters())
    assert float(term(seen(there), there, HEAD)) == pytest.approx(0.1 * 0.01 * count, rel=1e-4)


def test_lwf_by_hand():
    backbone = known_backbone()
    term, there = LwF(backbone, strength=4.0, temperature=3.0), moved(backbone)
    old, new = (backbone.source_head(seen(b).features) / 3 for b in (backbone, there))
    p = old.softmax(1)
    expected = 4 * (p * (p.log() - new.log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(term(seen(there), there, HEAD), expected, rtol=1e-3, atol=1e-6)
    there.net.stem = backbone.net.stem  # frozen below: batches may enter at the second stage
    torch.testing.assert_close(term(seen(there, entry=1), there, HEAD), term(seen(there), there, HEAD))


def test_co_tuning_by_hand():
    backbone = known_backbone()
    term = CoTuning(backbone, strength=2.3)
    related = np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 0.2, 0.3, 0.5]])
    term.tell(related)
    batch = seen(backbone)
    logits = backbone.source_head(batch.features).log_softmax(1)
    wanted = torch.tensor(related, dtype=torch.float32)
    expected = -2.3 * (wanted[batch.targets] * logits).sum(1).mean()
    torch.testing.assert_close(term(batch, backbone, HEAD), expected)
    mixed = seen(backbone, F.one_hot(batch.targets, 2).float())
    torch.testing.assert_close(term(mixed, backbone, HEAD), expected)


def test_delta_by_hand():
    backbone = known_backbone()
    term, there = Delta(backbone, strength=0.01, head_strength=0.0), moved(backbone)
    old, new = seen(backbone).outputs, seen(there).outputs
    expected = sum(((b - a) ** 2).mean((2, 3)).sum(1).mean() / 2 for a, b in zip(old[:2], new[:2], strict=True))
    expected = expected + ((new[2] - old[2]) ** 2).sum(1).mean() / 2
    torch.testing.assert_close(term(seen(there), there, HEAD), 0.01 * expected, rtol=1e-3, atol=1e-6)


def test_bss_by_hand():
    backbone = known_backbone()
    batch = seen(backbone)
    values = np.linalg.svd(batch.features.detach().numpy(), compute_uv=False)
    found = float(BSS(backbone, strength=1e-3, smallest=2)(batch, backbone, HEAD))
    assert found == pytest.approx(1e-3 * (values[-2:] ** 2).sum(), rel=1e-3)


def test_the_source_stays_in_evaluation_mode():
    term = LwF(known_backbone())
    term.train()
    assert not any(m.training for m in term.source.modules())
    assert not any(p.requires_grad for p in term.parameters())


@pytest.mark.parametrize("make", ALL, ids=lambda m: m.__name__)
@pytest.mark.parametrize("strategy", [FinetuneAll(), FinetuneTop(), GradualUnfreeze(), LpFt(head_epochs=1)], ids=str)
def test_they_go_with_every_strategy_and_resuming_changes_nothing(make, strategy, photos, tmp_path):
    data, plan = tiny_data(photos), strategy.given(FACTS).plan(STAGES)

    def fresh():
        term = make(known_backbone())
        if term.asks_source:
            term.tell(np.full((2, 5), 0.2))
        return tiny_module(plan, data, schedule=optim.constant(warmup=0.0), regularizer=term)

    epochs = len(plan.phases) + 1
    whole = fresh()
    tiny_trainer(tmp_path / "whole", epochs).fit(whole, datamodule=tiny_data(photos))
    first, second = fresh(), fresh()
    tiny_trainer(tmp_path / "parts", epochs - 1).fit(first, datamodule=tiny_data(photos))
    if make is CoTuning:  # what the source said comes from the checkpoint
        second.regularizer.relationship = torch.zeros(0, 0)
    checkpoint = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    tiny_trainer(tmp_path / "parts", epochs).fit(
        second, datamodule=tiny_data(photos), ckpt_path=str(checkpoint), weights_only=True
    )
    for (name, a), b in zip(whole.state_dict().items(), second.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    start = known_backbone().net.state_dict()
    assert not torch.equal(whole.backbone.net.block2[0].weight, start["block2.0.weight"])


def test_the_source_head_goes_as_fast_as_the_last_stage(photos):
    plan = GradualUnfreeze().given(FACTS).plan(STAGES)
    term = CoTuning(known_backbone())
    module = tiny_module(plan, tiny_data(photos), regularizer=term)
    for epoch, learns in ((0, False), (1, True)):
        module.members.apply(epoch)
        assert term.source_head.weight.requires_grad is learns
        assert plan.speed(epoch, "source_head") == plan.speed(epoch, "block2")
    without = tiny_module(plan, tiny_data(photos))
    assert module.members.sizes() == without.members.sizes()  # it is no part of the result


@pytest.mark.parametrize("name", ["lwf", "co_tuning"])
def test_without_a_source_head_they_are_refused(name, configure):
    with pytest.raises(UserError, match=f"regularizer={name} needs the classifier that the weights were pretrained"):
        build(configure(*SMALL, "strategy=finetune_all", f"regularizer={name}"))


def test_where_nothing_moves_there_is_nothing_to_hold(configure, caplog):
    caplog.set_level("INFO")
    parts = build(configure(*SMALL, "strategy=linear_probe", "regularizer=l2_sp"))
    assert parts.module.regularizer is None
    assert "nothing for the regularizer to hold on to" in caplog.text


@pytest.mark.parametrize("name", ["bss", "co_tuning", "delta", "l2_sp", "lwf", "none"])
def test_every_option_makes_its_term(name):
    assert name in options("regularizer")
    made = targets.build(option("regularizer", name))(known_backbone())
    known = {"bss": BSS, "co_tuning": CoTuning, "delta": Delta, "l2_sp": L2SP, "lwf": LwF, "none": type(None)}
    assert type(made) is known[name]
    assert set(options("regularizer")) == set(known)
