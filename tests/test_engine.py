"""Faster engines for frozen stages agree with the network, or are not taken."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.frozen import CPU, warmed
from tests.zoo import CASES, FEW, language_model
from tl_lightning.errors import UserError
from tl_lightning.features import engine
from tl_lightning.features.engine import Prefix
from tl_lightning.features.frozen import Options


@pytest.mark.parametrize("boundary", [1, 2, 3])
@pytest.mark.parametrize("choice", ["fused", "onnxruntime"])
def test_engines_agree_with_the_network(choice, boundary):
    if choice == "onnxruntime":
        pytest.importorskip("onnxruntime")
    network, images = warmed(), torch.randn(11, 3, 16, 16)
    prefix = Prefix(network, boundary, choice, CPU, 100)
    torch.testing.assert_close(prefix(images), network.below(images, boundary), rtol=1e-4, atol=1e-4)
    assert prefix(images[:3]).shape[0] == 3  # any number of images
    assert prefix.name == choice
    assert not prefix(images).requires_grad


# Of these the exporter is known to take the network; of others it may not, which costs speed alone.
EXPORTED = (
    "vgg16",
    "resnet18",
    "inception_v3",
    "mobilenet_v2",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_32",
    "swin_t",
)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in EXPORTED and c.library == "torchvision"], ids=str)
def test_every_old_family_can_be_exported(case):
    """For any number of images, not only the two that were traced."""
    pytest.importorskip("onnxruntime")
    network, images = case.build()
    images = torch.cat([images + 0.1 * i for i in range(5)])
    prefix = Prefix(network, len(network.stages), "onnxruntime", CPU, 100)
    with torch.no_grad():
        assert engine.disagreement(network(images), prefix(images)) < 1e-3
    assert prefix.name == "onnxruntime"


@pytest.mark.parametrize("case", FEW, ids=str)
def test_every_backbone_has_an_engine_that_agrees(case):
    network, x = case.build()
    prefix = Prefix(network, len(network.stages), "fused", CPU, 100)
    with torch.no_grad():
        assert engine.disagreement(network(x), prefix(x)) < 1e-3
    assert prefix.name == "fused"


def test_an_engine_that_is_wrong_or_fails_is_not_taken(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    network, images = warmed(), torch.randn(9, 3, 16, 16)

    def wrong(*args):
        return lambda x: 1.01 * network(x)

    def broken(*args):
        raise RuntimeError("unsupported operator\nand more")

    monkeypatch.setattr(engine, "_has_onnxruntime", lambda: True)
    monkeypatch.setitem(engine._BUILDERS, "onnxruntime", broken)
    prefix = Prefix(network, 3, "onnxruntime", CPU, 100)
    torch.testing.assert_close(prefix(images), network(images), rtol=1e-4, atol=1e-4)
    assert prefix.name == "fused"
    assert "onnxruntime does not take this network: unsupported operator" in caplog.text
    monkeypatch.setitem(engine._BUILDERS, "fused", wrong)
    prefix = Prefix(network, 3, "fused", CPU, 100)
    assert torch.equal(prefix(images), network(images))
    assert prefix.name == "eager"
    assert "fused is off by 1.0e-02" in caplog.text


def test_auto_exports_when_enough_work_lies_ahead(monkeypatch):
    monkeypatch.setattr(engine, "_has_onnxruntime", lambda: True)
    network, texts = warmed(), language_model("BertConfig")
    assert Prefix(network, 3, "auto", CPU, 10)._candidates(engine.EXPORT_SECONDS / 2) == ["fused"]
    assert Prefix(network, 3, "auto", CPU, 10)._candidates(engine.EXPORT_SECONDS * 2) == ["onnxruntime", "fused"]
    assert Prefix(texts, 3, "auto", CPU, 10)._candidates(engine.EXPORT_SECONDS * 2) == ["fused"]
    monkeypatch.setattr(engine, "_has_onnxruntime", lambda: False)
    assert Prefix(network, 3, "auto", CPU, 10)._candidates(engine.EXPORT_SECONDS * 2) == ["fused"]
    with pytest.raises(UserError, match="pip install onnx onnxruntime"):
        Prefix(network, 3, "onnxruntime", CPU, 10)


def test_the_engine_leaves_the_network_as_it_was():
    network = warmed().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    Prefix(network, 2, "fused", CPU, 10)(torch.randn(8, 3, 16, 16))
    assert all(m.training for m in network.modules())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_unknown_engine_and_dtype():
    for wrong in ({"engine": "fast"}, {"dtype": "int8"}):
        with pytest.raises(UserError, match="is unknown: use"):
            Options(**wrong)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("cared", [True, False])
def test_a_session_that_is_garbage_does_not_stop_a_forked_process(cared, tmp_path):
    """As in a sweep: what an earlier job has left is collected in a loader process of a later one.

    Without the care that is taken, the process waits for threads that were not forked: the control.
    """
    pytest.importorskip("onnxruntime")
    (tmp_path / "forks.py").write_text(
        "import gc, os, sys, torch\n"
        "from tests.frozen import CPU, warmed\n"
        "from tl_lightning.features import engine\n"
        "if sys.argv[1] == 'False':\n"
        "    engine._survive_forks = lambda: None\n"
        "gc.disable()\n"
        "torch.set_num_threads(2)\n"
        "prefix = engine.Prefix(warmed(), 2, 'onnxruntime', CPU, 100)\n"
        "prefix(torch.randn(8, 3, 16, 16))\n"
        "assert prefix.name == 'onnxruntime'\n"
        "circle = [prefix]\n"
        "circle.append(circle)\n"
        "del prefix, circle\n"
        "if not os.fork():\n"
        "    gc.collect()\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    command = [sys.executable, str(tmp_path / "forks.py"), str(cared)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        ended = process.wait(timeout=60 if cared else 12) == 0
    except subprocess.TimeoutExpired:
        ended = False
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert ended == cared
