"""The frozen stages on the fastest engine at hand: below the boundary nothing needs gradients."""

from __future__ import annotations

import copy
import functools
import gc
import importlib.util
import io
import logging
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tl_lightning import checks
from tl_lightning.backbones.backbone import Backbone, evaluating
from tl_lightning.backbones.folding import fold
from tl_lightning.backbones.weights import first_line
from tl_lightning.batch import Inputs, first_tensor, map_tensors
from tl_lightning.errors import UserError

log = logging.getLogger(__name__)

Engine = Callable[[Any], Tensor]  # normalised images (N, 3, H, W), or tokens, to the output of the last frozen stage
CHOICES = ("auto", "eager", "fused", "onnxruntime", "compiled")
CHECKED_ROWS = 8
# Work that must lie ahead before building a faster engine pays: an export takes about two seconds and saves two thirds
# of the time; the compiler takes a minute or two.
EXPORT_SECONDS = 4.0
COMPILED_IMAGES = 200_000


class Prefix:
    """Stages 0..boundary-1 of a backbone, without gradients, called with normalised images.

    "auto" times the network on the first images and takes the fastest engine whose building pays for the `images` to
    come. Whatever is built must agree with the network itself on eight images, or the next one is tried, with a line
    in the log: at last the network itself ("eager"). `half`: other engines may compute in half precision on a device
    that is faster at it.
    """

    def __init__(
        self, backbone: Backbone, boundary: int, choice: str, device: torch.device, images: int, half: bool = True
    ) -> None:
        checks.one_of("engine", choice, CHOICES)
        if choice == "onnxruntime" and not _has_onnxruntime():
            raise UserError("engine=onnxruntime is not installed: pip install onnx onnxruntime")
        self.backbone, self.boundary, self.choice, self.device = backbone, boundary, choice, device
        self.images, self.name = images, ""
        self.half = half and device.type == "cuda" and choice != "eager"
        self._run: Engine = self.eager

    @torch.no_grad()
    def eager(self, images: Inputs) -> Tensor:
        """The network as it is, in evaluation mode, in float32: (N, 3, H, W) or tokens to (N, ...)."""
        with evaluating(self.backbone.to(self.device)):
            return self.backbone.below(images, self.boundary).float()

    @torch.no_grad()
    def __call__(self, images: Inputs) -> Tensor:
        """Activations (N, ...) of stage boundary-1 in float32, of images (N, 3, H, W) or tokens (N, T) by name."""
        if not self.name:
            self.choose(map_tensors(lambda x: x[:CHECKED_ROWS], images))
        return self._run(images).float()

    @torch.no_grad()
    def choose(self, few: Inputs) -> None:
        """Choose the engine by these images (N, 3, H, W) or texts."""
        half = len(first_tensor(few)) // 2
        first = self.eager(map_tensors(lambda x: x[:half], few))  # warms up
        began = time.perf_counter()
        rest = self.eager(map_tensors(lambda x: x[half:], few))
        expected = torch.cat([first, rest.to(first)])
        seconds = (time.perf_counter() - began) / len(rest) * self.images
        self.name = "eager"
        for name in self._candidates(seconds):
            try:
                engine = _BUILDERS[name](self, few)
                error = disagreement(expected, engine(few))
            except Exception as why:  # exporters and compilers raise anything
                log.info(f"engine    {name} does not take this network: {first_line(why)}")
                continue
            bound = 1e-3 if self.device.type == "cpu" else 1e-2  # half precision, or single with shortened factors
            if error <= bound:
                self.name, self._run = name, engine
                break
            log.info(f"engine    {name} is off by {error:.1e}, allowed is {bound:g}: not taken")

    def _candidates(self, seconds: float) -> list[str]:
        """Engines to try, the fastest first, for so many seconds of work by the network itself."""
        if self.choice == "eager":
            return []
        if not self.backbone.input.fixed_size:  # others would build anew for every length of text
            return ["fused"]
        if self.choice != "auto":
            return list(dict.fromkeys([self.choice, "fused"]))
        if self.device.type == "cuda":  # where seconds are only those of the launch
            return ["compiled", "fused"] if self.images > COMPILED_IMAGES else ["fused"]
        pays = seconds > EXPORT_SECONDS and _has_onnxruntime()
        return ["onnxruntime", "fused"] if pays else ["fused"]


def disagreement(expected: Tensor, found: Tensor) -> float:
    """The largest distance between rows (N, ...), relative to the expected one's length; inf if it is no number."""
    a, b = expected.flatten(1).cpu().double(), found.flatten(1).cpu().double()
    distance = ((a - b).norm(dim=1) / a.norm(dim=1).clamp(min=1e-30)).max()
    return float(distance) if bool(torch.isfinite(distance)) else float("inf")


class _Below(nn.Module):
    """A copy of the frozen stages alone, BatchNorm folded into the convolutions before it."""

    def __init__(self, backbone: Backbone, boundary: int) -> None:
        super().__init__()
        self.to_features = boundary == len(backbone.stages)
        self.backbone = copy.deepcopy(backbone).eval().requires_grad_(False)
        self.backbone.drop(boundary)
        fold(self.backbone.net)
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Inputs) -> Tensor:
        output: Tensor = self.backbone(images) if self.to_features else self.backbone.run(images)
        return output


def _fused(prefix: Prefix, few: Inputs) -> Engine:
    network = _Below(prefix.backbone, prefix.boundary).to(prefix.device)

    def run(images: Inputs) -> Tensor:
        with torch.autocast("cuda", torch.float16, enabled=prefix.half):
            output: Tensor = network(images)
        return output

    return run


def _compiled(prefix: Prefix, few: Inputs) -> Engine:
    run = _fused(prefix, few)
    graphs = "reduce-overhead" if prefix.device.type == "cuda" else "default"
    fast = torch.compile(run, mode=graphs)
    return lambda images: fast(images).clone()  # a captured graph writes to the same place each time


@functools.cache
def _survive_forks() -> None:
    """Loader processes, which are forked, leave this one's garbage alone, once and for all.

    A session of onnxruntime that is garbage would be destroyed wherever Python collects next. In a forked process that
    waits for ever for the session's threads, which were not forked.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=gc.freeze)


def _onnxruntime(prefix: Prefix, few: Tensor) -> Engine:
    import onnxruntime as ort

    _survive_forks()

    network, file = _Below(prefix.backbone, prefix.boundary), io.BytesIO()
    axes = {"images": {0: "n"}, "output": {0: "n"}}
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["output"], "dynamic_axes": axes}
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's age: its successor takes twenty seconds for this
        torch.backends.mha.set_fastpath_enabled(False)  # one operator that the exporter does not know
        try:
            torch.onnx.export(network, (few[:2],), file, dynamo=False, **names)  # type: ignore[arg-type]
        finally:
            torch.backends.mha.set_fastpath_enabled(fused_attention)
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the loader needs the cores
    options.log_severity_level = 3
    session = ort.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        # copied by numpy, whose memory is used again: glibc before 2.38 loses that of aligned allocations like torch's
        rows = session.run(None, {"images": np.ascontiguousarray(images.numpy())})[0]
        return torch.from_numpy(rows)

    return run


_BUILDERS: dict[str, Callable[[Prefix, Any], Engine]] = {
    "fused": _fused,
    "onnxruntime": _onnxruntime,
    "compiled": _compiled,
}


def _has_onnxruntime() -> bool:
    return importlib.util.find_spec("onnxruntime") is not None
