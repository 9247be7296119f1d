"""The formats of exported networks: how each is written, and how it is run."""

from __future__ import annotations

import copy
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tl_lightning.backbones.backbone import Backbone
from tl_lightning.errors import UserError
from tl_lightning.files import atomically
from tl_lightning.jobs.judge import Judge
from tl_lightning.runs.model import Model, load_state, state_of

KEY = "tl_lightning"  # under which the facts stand in a file's metadata
AT_ONCE = 16  # samples
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

    @property
    def net(self) -> nn.Module:
        """The library's own network."""
        backbone = self.network[0]
        assert isinstance(backbone, Backbone)
        return backbone.net

    def forward(self, *raw: Tensor) -> Tensor:
        """(N, C) of images (N, H, W, 3) of 0..255, or of tokens (N, T) in the order of TOKENS."""
        outputs = self.network(self.input.of_raw(*raw))
        return self.task.predictions(outputs / self.temperature)


@dataclass(frozen=True)
class Format:
    """A kind of file: its name, what writes it (with the facts about the model), and what runs it.

    `exact`: its numbers must be the network's own, else its score. `whole`: it is given images as files hold them.
    `samples`: it cannot be made, or not be compared, without the run's own.
    `example`: a program that uses it is written beside it. `needs`: packages that write and run it.
    """

    file: str
    write: Callable[[Pipeline, Judge | None, Path, Mapping[str, Any]], None]
    open: Callable[[Path, Pipeline], Network]
    exact: bool = True
    whole: bool = False
    samples: bool = False
    example: bool = True
    needs: tuple[str, ...] = ("onnx", "onnxruntime")


def batches_of(judge: Judge, split: str, most: int | None = None) -> Raw:
    """What a network is given of a split's samples, evenly chosen, in their order."""
    number = judge.data.samples.size(split)
    picked = np.linspace(0, number - 1, min(most or number, number)).astype(int).tolist()
    return [judge.data.input.raw(inputs) for inputs in judge.raw_inputs(split, picked, AT_ONCE)]


def made_up(pipeline: Pipeline, number: int) -> tuple[Tensor, ...]:
    """What a network is given of so many samples of noise: (N, H, W, 3), or (N, T) each."""
    input: Any = pipeline.input
    raw: tuple[Tensor, ...] = input.raw(input.made_up(number))
    return raw


def _write_graph(pipeline: Pipeline, path: Path) -> None:
    axes, few = pipeline.input.raw_axes, made_up(pipeline, 2)
    names: dict[str, Any] = {"input_names": list(axes), "output_names": ["answers"],
                             "dynamic_axes": {**axes, "answers": {0: "n"}}}  # fmt: skip
    # the exporter that comes with torch alone: its successor needs a package more and twenty seconds
    torch.onnx.export(pipeline, few, str(path), dynamo=False, opset_version=_OPSET, **names)


def _write_onnx(pipeline: Pipeline, judge: Judge | None, path: Path, facts: Mapping[str, Any]) -> None:
    _write_graph(pipeline, path)
    _describe(path, facts)


def _write_int8(pipeline: Pipeline, judge: Judge | None, path: Path, facts: Mapping[str, Any]) -> None:
    """Static ranges, per channel, of 7 bits of weights, which processors without VNNI add up without overflow."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    assert judge is not None  # its format says that it needs samples
    with tempfile.TemporaryDirectory() as scratch:
        whole, prepared = f"{scratch}/whole.onnx", f"{scratch}/prepared.onnx"
        _write_graph(pipeline, Path(whole))
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)  # which knows no attention
        calibration = _Calibration(batches_of(judge, "train", _CALIBRATED), list(pipeline.input.raw_axes))
        quantize_static(prepared, str(path), calibration, QuantFormat.QDQ, per_channel=True, reduce_range=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip
    _describe(path, facts)


class _Calibration:
    """Samples as onnxruntime's calibration asks for them."""

    def __init__(self, batches: Raw, names: Sequence[str]) -> None:
        self._rows = iter([dict(zip(names, (part.numpy() for part in raw), strict=True)) for raw in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch by name, (N, ...) each; None after the last."""
        return next(self._rows, None)


# Pillow's resize and torchvision's centre crop, operator by operator: the long side is rounded down, pixels to whole
# numbers, the margins to the even one of two.
_RESIZE = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
resize (uint8[n, h, w, 3] whole) => (uint8[n, {crop}, {crop}, 3] resize_cut)
<int64[1] resize_side = {{{side}}}, int64[1] resize_crop = {{{crop}}}, int64[2] resize_hw = {{2, 3}},
 int64[2] resize_nc = {{0, 1}}, float resize_low = {{0}}, float resize_high = {{255}}, float resize_half = {{0.5}}>
{{
  resize_floats = Cast<to = 1>(whole)
  resize_planes = Transpose<perm = [0, 3, 1, 2]>(resize_floats)
  resize_shape = Shape(resize_planes)
  resize_extent = Gather(resize_shape, resize_hw)
  resize_short = ReduceMin<keepdims = 1>(resize_extent)
  resize_long = Mul(resize_extent, resize_side)
  resize_size = Div(resize_long, resize_short)
  resize_outer = Gather(resize_shape, resize_nc)
  resize_sizes = Concat<axis = 0>(resize_outer, resize_size)
  resize_resized = Resize<mode = "{mode}", antialias = 1, cubic_coeff_a = -0.5>(resize_planes, , , resize_sizes)
  resize_rounded = Round(resize_resized)
  resize_pixels = Clip(resize_rounded, resize_low, resize_high)
  resize_over = Sub(resize_size, resize_crop)
  resize_margins = Cast<to = 1>(resize_over)
  resize_halves = Mul(resize_margins, resize_half)
  resize_firsts = Round(resize_halves)
  resize_begin = Cast<to = 7>(resize_firsts)
  resize_end = Add(resize_begin, resize_crop)
  resize_middle = Slice(resize_pixels, resize_begin, resize_end, resize_hw)
  resize_last = Transpose<perm = [0, 2, 3, 1]>(resize_middle)
  resize_cut = Cast<to = 2>(resize_last)
}}
"""
_MODES = {"bilinear": "linear", "bicubic": "cubic"}


def _write_resize(pipeline: Pipeline, judge: Judge | None, path: Path, facts: Mapping[str, Any]) -> None:
    """The ONNX graph with a resize before it. Raises UserError for what is no image, or is resized in another way."""
    import onnx
    from onnx.compose import merge_models
    from onnx.parser import parse_model

    shape = facts["preprocessing"]
    if shape.get("interpolation") not in _MODES:
        raise UserError("format=onnx_resize is for images that are resized bilinearly or bicubically: take format=onnx")
    _write_graph(pipeline, path)
    network = onnx.load(str(path))
    mode = _MODES[shape["interpolation"]]
    text = _RESIZE.format(side=shape["eval_resize"], crop=shape["eval_size"], mode=mode, ir=network.ir_version,
                          opset=_OPSET)  # fmt: skip
    onnx.save(merge_models(parse_model(text), network, [("resize_cut", "images")]), str(path))
    _describe(path, {**facts, "inputs": ["whole"]})


def _write_torch(pipeline: Pipeline, judge: Judge | None, path: Path, facts: Mapping[str, Any]) -> None:
    few, axes = made_up(pipeline, 2), pipeline.input.raw_axes.values()
    free = tuple({place: torch.export.Dim.AUTO for place in places} for places in axes)
    file, program = io.BytesIO(), torch.export.export(pipeline, few, dynamic_shapes={"raw": free})
    torch.export.save(program, file, extra_files={f"{KEY}.json": json.dumps(facts)})
    path.write_bytes(file.getvalue())


def _write_weights(pipeline: Pipeline, judge: Judge | None, path: Path, facts: Mapping[str, Any]) -> None:
    """The weights under the library's own names, the head's under `head.`."""
    save_file(state_of(pipeline.net, pipeline.network[1]), path, {"format": "pt", KEY: json.dumps(facts)})


def _run_onnx(path: Path, pipeline: Pipeline) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    known = [given.name for given in session.get_inputs()]  # what a network makes nothing of is dropped

    def run(*raw: np.ndarray) -> np.ndarray:
        given = dict(zip(names, raw, strict=True))
        answers: np.ndarray = session.run(None, {name: given[name] for name in known})[0]
        return answers

    names = list(json.loads(session.get_modelmeta().custom_metadata_map[KEY])["inputs"])
    return run


def _run_torch(path: Path, pipeline: Pipeline) -> Network:
    module = torch.export.load(path).module()
    return lambda *raw: module(*map(torch.from_numpy, raw)).numpy()


def _run_weights(path: Path, pipeline: Pipeline) -> Network:
    other = copy.deepcopy(pipeline)
    for parameter in other.network.parameters():
        parameter.data.zero_()  # what is not in the file shall be missed
    load_state(load_file(path), other.net, other.network[1])
    return lambda *raw: other(*map(torch.from_numpy, raw)).numpy()


def _describe(path: Path, facts: Mapping[str, Any]) -> None:
    """Put the facts into an ONNX file."""
    import onnx

    graph = onnx.load(str(path))
    onnx.helper.set_model_props(graph, {KEY: json.dumps(facts)})
    atomically(path, lambda draft: onnx.save(graph, str(draft)))


FORMATS: Mapping[str, Format] = {
    "onnx": Format("model.onnx", _write_onnx, _run_onnx),
    "onnx_int8": Format("model_int8.onnx", _write_int8, _run_onnx, exact=False, samples=True),
    "onnx_resize": Format("model_resize.onnx", _write_resize, _run_onnx, exact=False, whole=True, samples=True),
    "torch_export": Format("model.pt2", _write_torch, _run_torch, example=False, needs=()),
    "safetensors": Format("model.safetensors", _write_weights, _run_weights, example=False, needs=()),
}
