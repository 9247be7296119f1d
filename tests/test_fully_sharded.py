"""FSDP2: the network, its gradients and the optimizer's state divided over the devices, and the same training."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.commands import QUICK, REPO, tl
from tests.small import SMALL
from tests.test_distributed import difference
from tl_lightning.build import build
from tl_lightning.errors import UserError
from tl_lightning.fully_sharded import refuse_trainer

FORMULA = REPO / "tl_lightning" / "weights" / "mobilenet_v2_formula.safetensors"


def worker(*arguments, launcher=(sys.executable,)):
    command = [*launcher, "-m", "tests.fsdp_worker", *map(str, arguments)]
    return subprocess.run(command, cwd=REPO, check=True, timeout=300, stdout=subprocess.PIPE, text=True).stdout


def test_divided_training_learns_as_one_process_and_resumes(photos, tmp_path):
    worker("train", photos, tmp_path, 2)
    worker("train", photos, tmp_path, 1)
    first, second, one = (
        torch.load(tmp_path / f"rank{rank}of{devices}.pt", weights_only=True)
        for rank, devices in ((0, 2), (1, 2), (0, 1))
    )
    for epoch in range(4):
        assert difference(first["epochs"][epoch], second["epochs"][epoch]) == 0
        assert difference(first["epochs"][epoch], one["epochs"][epoch]) < 1e-5
    assert difference(first["epochs"][0], first["epochs"][3]) > 1e-4
    assert first["accuracy"] == second["accuracy"] == one["accuracy"]
    assert one["forgetting"].keys() == first["forgetting"].keys() and one["forgetting"]["forgetting/distance/stem"] > 0
    distances = [name for name in one["forgetting"] if "distance" in name]
    assert [first["forgetting"][n] for n in distances] == pytest.approx(
        [one["forgetting"][n] for n in distances], abs=1e-4
    )
    total = one["held"]
    assert one["optimized"] == total
    for rank in (first, second):  # of each tensor a rank holds some rows, of the smallest all or none
        assert 0.4 * total < rank["held"] < 0.6 * total
        assert rank["optimized"] == rank["held"]
    assert len(first["resumed"]) == 2
    assert difference(first["resumed"][-1], first["epochs"][-1]) == 0


def test_gradients_of_every_kind_of_network(tmp_path):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    assert len(worker("families", launcher=torchrun).split()) == 8


def test_a_run_is_the_same_as_under_ddp_also_resumed(photos, tmp_path):
    """The exact head, scores, report, checkpoints and model; plain gradient descent does not blow rounding up."""
    words = [*QUICK, f"data.root={photos}", "backbone=mobilenet_v2_formula", "backbone.weights=formula",
             "strategy=lp_ft", "strategy.norm=eval", "trainer.devices=2", "trainer.max_epochs=2",
             "optimizer=sgd", "optimizer.lr=1e-1", "schedule=constant", "augment=none", "report=true"]  # fmt: skip
    for command in (
        [*words, "trainer.strategy=ddp", "hydra.run.dir=ddp", "trainer.max_epochs=4"],
        [*words, "trainer.strategy=fsdp2", "hydra.run.dir=fsdp2"],
        ["resume=fsdp2", "trainer.max_epochs=4"],
    ):
        result = tl(*command, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    metrics = {name: json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("ddp", "fsdp2")}
    assert metrics["fsdp2"].keys() == metrics["ddp"].keys()
    for key in ("val/accuracy", "val/loss", "final/loss", "best/epoch", "params/total", "params/trainable"):
        assert metrics["fsdp2"][key] == pytest.approx(metrics["ddp"][key], abs=1e-4), key
    for read in (model, last_epoch):
        ddp, fsdp2 = read(tmp_path / "ddp"), read(tmp_path / "fsdp2")
        assert fsdp2.keys() == ddp.keys()
        assert difference(fsdp2, ddp) < 1e-5
    start = {f"backbone.net.{name}": tensor.float() for name, tensor in load_file(FORMULA).items()}
    assert difference({name: start[name] for name in start.keys() & ddp.keys()}, ddp) > 2e-4
    headings = [re.findall("<h2.*?</h2>", (tmp_path / name / "report.html").read_text()) for name in ("ddp", "fsdp2")]
    assert headings[0] == headings[1] != []


def model(run):
    return load_file(run / "model.safetensors")


def last_epoch(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


REFUSED = [
    ("strategy=gradual_unfreeze trainer.max_epochs=10", "stages cannot thaw"),
    ("strategy=finetune_all strategy.norm=train", "strategy.norm=eval"),
    ("strategy=finetune_all strategy.norm=eval regularizer=l2_sp", "regularizer=none"),
    ("strategy=finetune_all strategy.norm=eval head=cosine", "scale is a single number"),
    ("strategy=finetune_all strategy.norm=eval optimizer=sam", "looks at every batch twice"),
    ("strategy=finetune_all strategy.norm=eval trainer.compile=aot_eager", "trainer.compile is not tried"),
    ("strategy=finetune_all strategy.norm=eval callbacks=ema", "cannot be averaged"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_what_is_refused(words, said, configure):
    with pytest.raises(UserError, match=said):
        build(configure(*SMALL, "trainer.strategy=fsdp2", *words.split()))


def test_half_precision_is_refused_on_a_gpu():
    with pytest.raises(UserError, match="take bf16-mixed"):
        refuse_trainer(SimpleNamespace(callbacks=[], precision="16-mixed"))
