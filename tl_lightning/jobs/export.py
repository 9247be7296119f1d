"""A trained network as a file that other programs run: samples in, probabilities out."""

from __future__ import annotations

import copy
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tl_lightning import checks
from tl_lightning.backbones.weights import first_line
from tl_lightning.errors import UserError
from tl_lightning.evaluation.calibration import Calibration
from tl_lightning.files import atomically
from tl_lightning.jobs.judge import Judge
from tl_lightning.runs.folder import FORMAT, RunFolder
from tl_lightning.runs.model import Model

FORMATS = {"onnx": "model.onnx", "onnx_int8": "model_int8.onnx", "torch_export": "model.pt2"}
_BOUND = 1e-3  # between probabilities, or values in units of the largest
_LOSS = 0.01  # of the score, in whole numbers of 8 bits
_AT_ONCE = 16  # samples
_OPSET = 18
_CALIBRATED = 200  # training samples by which ranges are chosen
Raw = Sequence[tuple[Tensor, ...]]  # batches of what a network is given
Network = Callable[..., np.ndarray]  # an exported one


class Pipeline(nn.Module):
    """A network with what comes before and after it: raw samples to probabilities or values (N, C)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = copy.deepcopy(model.network).cpu().eval().requires_grad_(False)
        self.input, self.task, self.temperature = model.backbone.input, model.task, model.calibration.temperature

    def forward(self, *raw: Tensor) -> Tensor:
        """(N, C) of images (N, H, W, 3) of 0..255, or of tokens (N, T) in the order of TOKENS."""
        outputs = self.network(self.input.of_raw(*raw))
        return self.task.predictions(outputs / self.temperature)


@dataclass(frozen=True)
class Exported:
    """A file, its bytes, and how far its numbers are from the network's on so many samples.

    `agreement`: how often both give one answer. `score`: its name, the network's, and the file's.
    """

    path: Path
    size: int
    samples: int
    difference: float
    agreement: float
    score: tuple[str, float, float]

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.size / 1e6:.1f} MB; on {self.samples} validation samples its numbers "
            f"are off by at most {self.difference:.1e}, {self.agreement:.1%} of its answers are the network's; "
            f"{self.score[0]} {self.score[2]:.4f} against {self.score[1]:.4f}"
        )


def export(model: Model, judge: Judge, folder: RunFolder, format: str = "onnx", out: Path | None = None) -> Exported:
    """The network as a file of a format in `out` (the run's export/), with a program beside it that uses it.

    It is compared with the network on the run's validation samples. Raises UserError for a format that there is not,
    for a network that cannot be exported, and for a file that does not agree, which is removed.
    """
    checks.one_of("format", format, tuple(FORMATS))
    into = out or folder.export
    path, pipeline, batches = into / FORMATS[format], Pipeline(model).eval(), _batches(judge, "val")
    try:
        with _quiet(), torch.no_grad():
            atomically(path, lambda draft: _WRITERS[format](pipeline, judge, draft))
            if path.suffix == ".onnx":
                _describe(path, model)
            found = _compared(pipeline, _RUNNERS[path.suffix](path), batches, judge, path)
    except UserError:
        raise
    except Exception as error:  # exporters raise anything
        raise UserError(f"this network cannot be exported as {format}: {first_line(error)}") from error
    name, before, after = found.score
    lost = before - after if model.task.rises(name) else after / before - 1
    if not (lost <= _LOSS if format == "onnx_int8" else found.difference <= _BOUND):
        path.unlink()
        raise UserError(f"{found} and is not kept")
    if path.suffix == ".onnx":
        shutil.copyfile(str(files("tl_lightning.examples") / model.backbone.input.example), into / "predict.py")
        model.backbone.input.write_beside(into)
    return found


def _batches(judge: Judge, split: str, most: int | None = None) -> Raw:
    """What a network is given of a split's samples, in their order."""
    number = judge.data.samples.size(split)
    picked = np.linspace(0, number - 1, min(most or number, number)).astype(int).tolist()
    return [judge.data.input.raw(inputs) for inputs in judge.raw_inputs(split, picked, _AT_ONCE)]


def _compared(pipeline: Pipeline, run: Network, batches: Raw, judge: Judge, path: Path) -> Exported:
    task, targets = pipeline.task, judge.data.samples.targets("val")
    expected = np.concatenate([pipeline(*raw).numpy() for raw in batches])
    found = np.concatenate([run(*(part.numpy() for part in raw)) for raw in batches])
    scale = max(1.0, float(np.abs(expected).max()))
    before, after = (task.answers(numbers) for numbers in (expected, found))
    name = task.monitor.partition("/")[2]
    scores = [{s.name: s.value for s in task.judge(numbers, targets, Calibration()).scores}[name]
              for numbers in (expected, found)]  # fmt: skip
    agreement = float(np.mean([a == b for a, b in zip(before, after, strict=True)]))
    difference = float(np.abs(found - expected).max()) / scale
    return Exported(path, path.stat().st_size, len(found), difference, agreement, (name, scores[0], scores[1]))


def _write_onnx(pipeline: Pipeline, judge: Judge, path: Path) -> None:
    axes = pipeline.input.raw_axes
    few = _batches(judge, "val", 2)[0]
    names: dict[str, Any] = {"input_names": list(axes), "output_names": ["answers"],
                             "dynamic_axes": {**axes, "answers": {0: "n"}}}  # fmt: skip
    # the exporter that comes with torch alone: its successor needs a package more and twenty seconds
    torch.onnx.export(pipeline, few, str(path), dynamo=False, opset_version=_OPSET, **names)


def _write_int8(pipeline: Pipeline, judge: Judge, path: Path) -> None:
    """Static ranges, per channel, of 7 bits of weights, which processors without VNNI add up without overflow."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch:
        whole, prepared = f"{scratch}/whole.onnx", f"{scratch}/prepared.onnx"
        _write_onnx(pipeline, judge, Path(whole))
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)  # which knows no attention
        calibration = _Calibration(_batches(judge, "train", _CALIBRATED), list(pipeline.input.raw_axes))
        quantize_static(prepared, str(path), calibration, QuantFormat.QDQ, per_channel=True, reduce_range=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip


class _Calibration:
    """Samples as onnxruntime's calibration asks for them."""

    def __init__(self, batches: Raw, names: Sequence[str]) -> None:
        self._rows = iter([dict(zip(names, (part.numpy() for part in raw), strict=True)) for raw in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch by name, (N, ...) each; None after the last."""
        return next(self._rows, None)


def _write_torch(pipeline: Pipeline, judge: Judge, path: Path) -> None:
    few, axes = _batches(judge, "val", 2)[0], pipeline.input.raw_axes.values()
    free = tuple({place: torch.export.Dim.AUTO for place in places} for places in axes)
    file = io.BytesIO()
    torch.export.save(torch.export.export(pipeline, few, dynamic_shapes={"raw": free}), file)
    path.write_bytes(file.getvalue())


def _run_onnx(path: Path) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    known = [given.name for given in session.get_inputs()]  # what a network makes nothing of is dropped

    def run(*raw: np.ndarray) -> np.ndarray:
        given = dict(zip(names, raw, strict=True))
        answers: np.ndarray = session.run(None, {name: given[name] for name in known})[0]
        return answers

    names = list(json.loads(session.get_modelmeta().custom_metadata_map["tl_lightning"])["inputs"])
    return run


def _run_torch(path: Path) -> Network:
    module = torch.export.load(path).module()
    return lambda *raw: module(*map(torch.from_numpy, raw)).numpy()


def _describe(path: Path, model: Model) -> None:
    """Everything that a program needs to know of an ONNX file, in the file."""
    import onnx

    facts = {
        "format": FORMAT,
        "outputs": list(model.task.outputs),
        "task": model.task.facts()["_target_"],
        "preprocessing": model.facts["preprocessing"],
        "inputs": list(model.backbone.input.raw_axes),
        "temperature": model.calibration.temperature,
        "thresholds": list(model.calibration.thresholds),
        "versions": model.facts.get("versions", {}),
    }
    graph = onnx.load(str(path))
    onnx.helper.set_model_props(graph, {"tl_lightning": json.dumps(facts)})
    atomically(path, lambda draft: onnx.save(graph, str(draft)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks, and without fused attention, which they do not know."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


_WRITERS: dict[str, Callable[[Pipeline, Judge, Path], None]] = {
    "onnx": _write_onnx,
    "onnx_int8": _write_int8,
    "torch_export": _write_torch,
}
_RUNNERS: dict[str, Callable[[Path], Network]] = {".onnx": _run_onnx, ".pt2": _run_torch}
