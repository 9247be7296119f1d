"""A trained network as a file that other programs run: samples in, probabilities out."""

from __future__ import annotations

import importlib.util
import math
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tl_lightning import checks
from tl_lightning.backbones.weights import first_line
from tl_lightning.errors import UserError
from tl_lightning.evaluation.calibration import Calibration
from tl_lightning.files import atomically
from tl_lightning.jobs.export_formats import FORMATS, Format, Pipeline, Raw, batches_of, made_up
from tl_lightning.jobs.judge import Judge
from tl_lightning.runs.folder import FORMAT, RunFolder
from tl_lightning.runs.model import Model
from tl_lightning.tasks.task import Task

_BOUND = 1e-3  # between probabilities, or values in units of the largest
_LOSS = 0.01  # of the score, where numbers may differ
_MADE_UP = 16  # samples
_WHOLE = 200  # images that are decoded whole to be compared


@dataclass(frozen=True)
class Exported:
    """A file, its bytes, and how far its numbers are from the network's on so many samples.

    `agreement`: how often both give one answer. `score`: its name, the network's, and the file's; None where the
    samples were made up.
    """

    path: Path
    size: int
    samples: int
    difference: float
    agreement: float
    score: tuple[str, float, float] | None

    def __str__(self) -> str:
        what = "validation samples" if self.score else "samples of noise, as the run's are not at hand,"
        said = (
            f"{self.path}: {self.size / 1e6:.1f} MB; on {self.samples} {what} its numbers "
            f"are off by at most {self.difference:.1e}, {self.agreement:.1%} of its answers are the network's"
        )
        if self.score:
            said += f"; {self.score[0]} {self.score[2]:.4f} against {self.score[1]:.4f}"
        return said


def export(
    model: Model, samples: Callable[[], Judge], folder: RunFolder, format: str = "onnx", out: Path | None = None
) -> Exported:
    """The network as a file of a format in `out` (the run's export/), with a program beside it that uses it.

    It is compared with the network on the run's validation samples, or where `samples` does not have them, and the
    format can do without, on noise. Raises UserError for a format that there is not, for a network that cannot be
    exported, and for a file that does not agree, which is removed.
    """
    checks.one_of("format", format, tuple(FORMATS))
    kind, into = FORMATS[format], out or folder.export
    if missing := [name for name in kind.needs if importlib.util.find_spec(name) is None]:
        raise UserError(f"format={format} needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    path, pipeline = into / kind.file, Pipeline(model).eval()
    try:
        judge: Judge | None = samples()
    except UserError:
        if kind.samples:
            raise
        judge = None
    try:
        with _quiet(), torch.no_grad():
            atomically(path, lambda draft: kind.write(pipeline, judge, draft, _facts(model)))
            found = _compared(pipeline, kind, judge, path)
    except UserError:
        path.unlink(missing_ok=True)
        raise
    except Exception as error:  # exporters raise anything
        path.unlink(missing_ok=True)
        raise UserError(f"this network cannot be exported as {format}: {first_line(error)}") from error
    lost = _lost(model.task, *found.score) if found.score else 0.0
    if not (found.difference <= _BOUND if kind.exact else lost <= _LOSS):
        path.unlink()
        raise UserError(f"{found} and is not kept")
    if kind.example:
        shutil.copyfile(str(files("tl_lightning.examples") / model.backbone.input.example), into / "predict.py")
        model.backbone.input.write_beside(into)
    return found


def _lost(task: Task, name: str, before: float, after: float) -> float:
    """How much of a score is gone: of one that rises, the difference; of an error, its growth."""
    if task.rises(name):
        return before - after
    return after / before - 1 if before else math.inf if after else 0.0


def _facts(model: Model) -> dict[str, Any]:
    """Everything that a program needs to know of the file, as JSON holds it."""
    return {
        "format": FORMAT,
        "outputs": list(model.task.outputs),
        "task": model.task.facts()["_target_"],
        "preprocessing": model.facts["preprocessing"],
        "inputs": list(model.backbone.input.raw_axes),
        "temperature": model.calibration.temperature,
        "thresholds": list(model.calibration.thresholds),
        "licence": model.facts.get("licence") or "",
        "versions": model.facts.get("versions", {}),
    }


def _compared(pipeline: Pipeline, kind: Format, judge: Judge | None, path: Path) -> Exported:
    """The file beside the network, on validation samples as each of them is given them; without samples, on noise."""
    if judge is None:
        noise = [made_up(pipeline, _MADE_UP)]
        return _measured(pipeline, kind, path, noise, noise)
    number = judge.data.samples.size("val")
    most = min(_WHOLE, number) if kind.whole else number
    places = np.linspace(0, number - 1, most).astype(int)
    batches = batches_of(judge, "val", most)
    given = _whole(judge, places.tolist()) if kind.whole else batches
    return _measured(pipeline, kind, path, batches, given, judge.data.samples.targets("val")[places])


def _measured(
    pipeline: Pipeline,
    kind: Format,
    path: Path,
    batches: Raw,
    given: Iterable[tuple[torch.Tensor, ...]],
    targets: np.ndarray | None = None,
) -> Exported:
    """What the network says of batches beside what the file says of what it is `given`; with targets, their scores."""
    task, run = pipeline.task, kind.open(path, pipeline)
    expected = np.concatenate([pipeline(*raw).numpy() for raw in batches])
    found = np.concatenate([run(*(part.numpy() for part in raw)) for raw in given])
    agreement = float(np.mean([a == b for a, b in zip(task.answers(expected), task.answers(found), strict=True)]))
    difference = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
    score = None
    if targets is not None:
        name = task.monitor.partition("/")[2]
        before, after = ({s.name: s.value for s in task.judge(numbers, targets, Calibration()).scores}[name]
                         for numbers in (expected, found))  # fmt: skip
        score = (name, before, after)
    return Exported(path, path.stat().st_size, len(found), difference, agreement, score)


def _whole(judge: Judge, places: list[int]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Validation images one by one, as large as they are."""
    for inputs in judge.raw_inputs("val", places, 1, judge.data.whole_transform):
        yield judge.data.input.raw(inputs)


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
