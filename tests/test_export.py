"""Exported files say what the run says, in programs that do not know this package."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn
from torchvision.transforms import v2

import tl_lightning as tl
from tests.conftest import write_image
from tests.probe import PROBE
from tests.texts import write_texts
from tests.zoo import WORDS
from tl_lightning.cli.verbs import act
from tl_lightning.jobs import export as exports
from tl_lightning.jobs import export_formats
from tl_lightning.jobs.export_formats import FORMATS, KEY

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def run(photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    run.evaluate()
    return run


def outside(program, *arguments):
    """What a program prints in a process that cannot import this package, by source and class."""
    hidden = "import runpy, sys; sys.modules['tl_lightning'] = sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
    hidden += "runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-I", "-c", hidden, str(program), *map(str, arguments)],
                          capture_output=True, text=True, timeout=100)  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {row[0]: {name: float(p) for name, p in (part.rsplit(" ", 1) for part in row[1:])} for row in rows}


def test_a_program_without_this_package_says_the_same(run, photos):
    found = run.export()
    assert (found.path, found.samples) == (run.path / "export" / "model.onnx", 4)
    assert found.difference < 1e-5
    assert found.agreement == 1
    files = sorted(photos.glob("*/*.png"))[::3]
    said = run.predict(files)
    printed = outside(run.path / "export" / "predict.py", found.path, *files)
    for path, _, numbers in said:
        assert [printed[path][name] for name in said.outputs] == pytest.approx(numbers.tolist(), abs=1e-4)


def test_the_file_says_what_it_is(run):
    run.evaluate(threshold="f1")
    session = onnxruntime.InferenceSession(str(run.export().path))
    facts = json.loads(session.get_modelmeta().custom_metadata_map["tl_lightning"])
    assert facts["outputs"] == ["dark", "light"]
    assert facts["preprocessing"]["eval_size"] == 32
    assert facts["licence"] == run.folder.facts()["licence"]
    assert facts["temperature"] == run.folder.calibration().temperature
    assert len(facts["thresholds"]) == 2
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(uint8)", [32, 32, 3])
    for number in (1, 5):  # as many as come
        (answers,) = session.run(None, {"images": np.zeros((number, 32, 32, 3), np.uint8)})
        assert answers.shape == (number, 2)
        np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)


def test_the_network_itself_goes_through_torchs_exporters(run, tmp_path):
    """What people do by hand with `run.model.network`."""
    network, images = run.model.network, torch.randn(2, 3, 32, 32)
    expected = network(images).detach().numpy()
    torch.onnx.export(network, (images,), str(tmp_path / "by_hand.onnx"), dynamo=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "by_hand.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-3)
    for made in (torch.jit.trace(network, images), torch.export.export(network, (images,)).module()):
        np.testing.assert_allclose(made(images).detach().numpy(), expected, atol=1e-5)


def test_torchs_own_format(run, photos):
    found = run.export("torch_export", run.path / "elsewhere")
    assert found.difference < 1e-5
    extra = {f"{KEY}.json": ""}
    module = torch.export.load(run.path / "elsewhere" / "model.pt2", extra_files=extra).module()
    assert json.loads(extra[f"{KEY}.json"])["outputs"] == ["dark", "light"]
    assert module(torch.zeros(3, 32, 32, 3, dtype=torch.uint8)).shape == (3, 2)


def test_eight_bits_are_kept_where_they_lose_little(run, monkeypatch):
    found = run.export("onnx_int8")
    kinds = {node.op_type for node in onnx.load(str(found.path)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert found.size < 0.4 * run.export().size
    monkeypatch.setattr(exports, "_LOSS", -0.1)
    with pytest.raises(tl.UserError, match=r"accuracy .* against .* and is not kept"):
        run.export("onnx_int8")
    assert not found.path.exists()


def test_the_resize_in_the_graph(shades, tmp_path):
    """Images of any size and shape, in a program that only decodes them."""
    for i, size in enumerate(((97, 64), (50, 201), (33, 32), (500, 400))):
        for name, level in (("dark", 60), ("light", 190)):
            for k in range(3):
                write_image(tmp_path / "photos" / name / f"{i}{k}.png", level, 10 * i + k, size)
    run = tl.train(tmp_path / "photos", run_dir=tmp_path / "run", **PROBE)
    found = run.export("onnx_resize")
    assert found.agreement == 1 and found.difference < 0.02
    files = sorted((tmp_path / "photos").glob("*/*.png"))
    said = run.predict(files)
    printed = outside(run.path / "export" / "predict.py", found.path, *files)
    for path, _, numbers in said:
        assert [printed[path][name] for name in said.outputs] == pytest.approx(numbers.tolist(), abs=0.02)
    (given,) = onnxruntime.InferenceSession(str(found.path)).get_inputs()
    assert (given.name, given.type) == ("whole", "tensor(uint8)")


@pytest.mark.parametrize("size", [(97, 64), (50, 201), (33, 32), (641, 480)])
@pytest.mark.parametrize("mode, off", [("bilinear", 1), ("bicubic", 16)])
def test_the_graphs_resize_is_pillows(size, mode, off):
    from onnx.parser import parse_model

    text = export_formats._RESIZE.format(side=40, crop=32, mode=export_formats._MODES[mode], ir=8, opset=18)
    session = onnxruntime.InferenceSession(parse_model(text).SerializeToString())
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    transform = v2.Compose([v2.Resize(40, v2.InterpolationMode(mode), antialias=True), v2.CenterCrop(32)])
    expected = np.asarray(transform(image)).astype(int)
    (found,) = session.run(None, {"whole": pixels[None]})
    assert found.shape == (1, 32, 32, 3)
    assert abs(found[0].astype(int) - expected).max() <= off
    assert abs(found[0].astype(int) - expected).mean() < 0.5


def test_weights_with_what_they_mean(run, photos):
    found = run.export("safetensors")
    assert found.difference == 0
    with safe_open(found.path, "pt") as file:
        facts = json.loads(file.metadata()[KEY])
        assert {"features.0.0.weight", "head.1.weight"} <= set(file.keys())
    assert facts["outputs"] == ["dark", "light"] and facts["preprocessing"]["eval_size"] == 32


def test_a_file_that_is_off_is_not_kept(run, monkeypatch):
    right = FORMATS["onnx"]

    def off(path, pipeline):
        run = right.open(path, pipeline)
        return lambda *raw: run(*raw) + 0.01

    monkeypatch.setitem(FORMATS, "onnx", replace(right, open=off))
    with pytest.raises(tl.UserError, match=r"off by at most 1\.0e-02.* and is not kept"):
        run.export()
    assert not (run.path / "export" / "model.onnx").exists()


class Odd(nn.Linear):
    """A head that no exporter knows."""

    def forward(self, x):
        return super().forward(x) + torch.linalg.eigvals(x.new_ones(2, 2)).real.sum() * 0


def test_what_cannot_be_exported_is_named(photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "odd", head=lambda width, start: Odd(width, 2), **PROBE)
    with pytest.raises(tl.UserError, match=r"cannot be exported as onnx: .*eigvals"):
        run.export()
    assert list((tmp_path / "odd").glob("export/*")) == []
    with pytest.raises(tl.UserError, match="format=tflite is unknown: use onnx, onnx_int8, onnx_resize"):
        run.export("tflite")


def test_without_the_runs_samples_noise_will_do(run, photos):
    expected = run.predict(photos).probabilities
    moved = photos.rename(photos.with_name("elsewhere"))
    alone = tl.load(run.path)
    found = alone.export()
    assert "16 samples of noise, as the run's are not at hand" in str(found) and found.difference < 1e-3
    said = outside(run.path / "export" / "predict.py", found.path, *sorted(moved.glob("*/*.png"))[:2])
    first = [next(iter(row.values())) for row in said.values()]
    assert first == pytest.approx(expected[:2].max(1).tolist(), abs=1e-3)
    assert alone.export("torch_export").difference < 1e-3
    for kind in ("onnx_int8", "onnx_resize"):
        with pytest.raises(tl.UserError, match=r"the samples of .* cannot be had, which this needs: data.root="):
            alone.export(kind)
    with pytest.raises(tl.UserError, match="cannot be had, which this needs"):
        alone.card()


def test_what_is_not_installed_is_named(run, monkeypatch):
    monkeypatch.setattr(exports.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tl.UserError, match="format=onnx needs onnx and onnxruntime: pip install onnx onnxruntime"):
        run.export()


def test_texts_with_their_tokenizer(model, tmp_path, capsys):
    pytest.importorskip("transformers")
    words = [("good fox", "awful dog")[i % 2] for i in range(40)]
    rows = [(f"{word} {WORDS[i % 20]} {WORDS[i // 20]}", word[:4]) for i, word in enumerate(words)]
    file = write_texts(tmp_path / "texts.csv", rows)
    options = {"backbone": "text", "backbone.name": str(model), "backbone.length": 16, "strategy": "linear_probe",
               "data.batch_size": 4, "trainer": "cpu"}  # fmt: skip
    run = tl.train(file, run_dir=tmp_path / "run", **options)
    with pytest.raises(tl.UserError, match="format=onnx_resize is for images"):
        run.export("onnx_resize")
    capsys.readouterr()
    act("export", [f"run={run.path}"])
    assert "100.0% of its answers" in capsys.readouterr().out
    said = run.predict(["good fox", f"awful dog {WORDS[3]} {WORDS[5]}"])
    printed = outside(run.path / "export" / "predict.py", run.path / "export" / "model.onnx", *said.sources)
    for text, _, numbers in said:
        assert [printed[text][name] for name in said.outputs] == pytest.approx(numbers.tolist(), abs=1e-4)
