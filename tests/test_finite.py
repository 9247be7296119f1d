"""Numbers that are no longer finite: steps are left out, epochs not kept, runs ended, nothing of it in a file."""

import json
import math

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.tiny import STAGES, tiny_data, tiny_module, tiny_trainer
from tl_lightning.callbacks.finite import IN_A_ROW, FiniteSteps
from tl_lightning.errors import DivergedError
from tl_lightning.jobs.train import train
from tl_lightning.runs.folder import RunFolder
from tl_lightning.strategies import FinetuneAll
from tl_lightning.strategies.plan import Facts


class Spoil(Callback):
    """Puts a NaN into the images of some batches, counted from the start."""

    def __init__(self, batches):
        self.batches, self.seen, self.states = batches, 0, []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.seen in self.batches:
            batch.inputs[0, 0, 0, 0] = float("nan")
        self.seen += 1

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.states.append({k: v.clone() for k, v in module.state_dict().items()})


def spoilt(photos, tmp_path, batches, epochs=1, make=torch.optim.AdamW, batch_size=4, **trainer):
    data, spoil = tiny_data(photos, batch_size=batch_size), Spoil(batches)
    strategy = FinetuneAll(norm="train").given(Facts(True, True, 2, 20))
    module = tiny_module(strategy.plan(STAGES), data, make=make)
    runner = tiny_trainer(tmp_path, epochs, spoil, **trainer)
    runner.fit(module, datamodule=data)
    return module, spoil, next(c for c in runner.callbacks if isinstance(c, FiniteSteps)), runner


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_a_step_of_nan_is_left_out_and_counted(photos, tmp_path, make):
    module, spoil, guard, runner = spoilt(photos, tmp_path, {2}, make=make)
    before, after, later = spoil.states[1], spoil.states[2], spoil.states[3]
    learned = [k for k, _ in module.named_parameters()]
    assert all(torch.equal(before[k], after[k]) for k in learned)
    assert not all(torch.equal(after[k], later[k]) for k in learned)
    assert all(torch.isfinite(v).all() for v in module.state_dict().values())  # BatchNorm's statistics, too
    assert guard.skipped == 1
    assert math.isfinite(
        float(runner.callback_metrics["train/loss_epoch"])
    )  # of the batches that could be learned from


def test_ten_in_a_row_end_the_run_with_all_there_is_to_know(photos, tmp_path):
    with pytest.raises(
        DivergedError, match=rf"{IN_A_ROW} steps in a row \(epoch 1, step .*, rate .*, batch .*png"
    ) as end:
        spoilt(photos, tmp_path, range(3, 99), epochs=9, batch_size=2)
    assert end.value.exit_code == 3
    assert "lower optimizer.lr" in str(end.value)


def test_an_epoch_without_a_step_ends_the_run(photos, tmp_path):
    with pytest.raises(DivergedError, match="no step of this epoch could be taken"):
        spoilt(photos, tmp_path, range(5), epochs=3)


def test_an_accumulated_window_is_left_out_as_a_whole(photos, tmp_path):
    module, spoil, guard, _ = spoilt(photos, tmp_path, {1}, accumulate_grad_batches=2)
    learned = [k for k, _ in module.named_parameters()]
    assert all(torch.equal(spoil.states[0][k], spoil.states[1][k]) for k in learned)
    assert guard.skipped == 1


def test_a_run_that_never_was_finite_writes_no_model(configure, tmp_path, monkeypatch):
    from tl_lightning.tasks import Classification

    class Broken(torch.nn.Module):
        def forward(self, outputs, targets):
            return outputs.sum() * float("nan")

    monkeypatch.setattr(Classification, "evaluation_loss", lambda task: Broken())
    with pytest.raises(DivergedError, match="in no epoch was the loss finite"):
        train(configure("backbone.image_size=32", "strategy=finetune_all", "logger=none"))
    run = RunFolder(tmp_path / "run")
    assert not any(p.exists() for p in (run.weights_file, run.metrics_file, *run.checkpoints, run.best_checkpoint))


def test_what_is_not_finite_is_null_in_json(tmp_path):
    RunFolder(tmp_path).write_json(tmp_path / "x.json", {"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": 2}})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [1.5, None], "c": {"d": 2}}
