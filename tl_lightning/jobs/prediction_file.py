"""Predictions in a file: CSV, JSON lines or Parquet; a row for every source, also for those that cannot be read."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tl_lightning import checks
from tl_lightning.bar import Bar
from tl_lightning.errors import UserError
from tl_lightning.evaluation.neighbours import Neighbours
from tl_lightning.features.engine import CHOICES
from tl_lightning.files import atomically
from tl_lightning.jobs.kept_rows import WRITERS, Kept
from tl_lightning.jobs.predict import Answered, answered, reader_of
from tl_lightning.printable import printable
from tl_lightning.runs.model import Model

KINDS = tuple(WRITERS)
_FIRST = 20  # rows that are shown


@dataclass(frozen=True)
class Written:
    """What became of so many sources: the file, the first rows of it, how many hold an error, and how many a second.

    `beside`: what else was made, features and heat maps.
    """

    path: Path
    rows: int
    first: Sequence[Mapping[str, Any]]
    errors: int
    pace: float
    beside: Sequence[Path] = ()

    def __str__(self) -> str:
        lines = [
            "\t".join(_shown(value) for key, value in row.items() if key != "error" or value) for row in self.first
        ]
        names = next((row for row in self.first if not row["error"]), {})
        lines[:0] = ["\t".join(key for key in names if key != "error")] if names else []
        more = [f"... and {self.rows - len(self.first)} more"] if self.rows > len(self.first) else []
        unread = f", {self.errors} could not be read" if self.errors else ""
        made = [f"{self.path}: {self.rows} rows{unread}, {self.pace:.0f} a second", *map(str, self.beside)]
        return "\n".join([*lines, *more, *made])


@dataclass(frozen=True)
class RowOptions:
    """What a row holds beside the answer: `top` classes; the distance to what is known, from which it is unknown.

    `embeddings`: features, in a .npy beside the file, a row for a row. `explain`: what the answer comes from, a
    heat map in a folder beside the file, or the words of a text. `rank` "label_next": what tells most when it is
    labelled comes first: small margins, large distances. `tta` "flip" or "crops": the mean over views of each.
    """

    top: int = 1
    neighbours: Neighbours | None = None
    embeddings: bool = False
    explain: bool = False
    rank: str = ""
    tta: str = ""

    def __post_init__(self) -> None:
        checks.whole("top", self.top, 1)
        checks.one_of("rank", self.rank, ("", "label_next"))


def write_predictions(
    model: Model, weights: Path, named: Sequence[tuple[str, Any]], out: Path, options: RowOptions, engine: str = "auto"
) -> Written:
    """Answer everything that is `named`, row by row, in its order, and put the file in its place at the end.

    Rows are kept beside `out` while it is being made; the same call goes on after the last of them. `weights`: the
    model's file, whose rows are no other's. Raises UserError for a kind of file that there is not, and where nothing
    can be read.
    """
    if out.suffix.lower() not in KINDS:
        raise UserError(f"out={out}: the name must end in {', '.join(KINDS)}")
    checks.one_of("engine", engine, CHOICES)
    model.backbone.input.views(options.tta)  # refused before anything is written
    asked = [options.top, options.neighbours is None, options.embeddings, options.explain, options.tta]
    facts = [sha256(weights.read_bytes()).hexdigest(), asked, repr(model.calibration), [name for name, _ in named]]
    job = sha256(json.dumps(facts).encode()).hexdigest()
    kept = Kept(out.with_name(f"{out.name}.{job[:16]}.rows"))
    out.parent.mkdir(parents=True, exist_ok=True)
    pace = _keep_rows(model, named, kept, out.with_suffix(""), options, engine)
    errors = sum(bool(row["error"]) for row in kept.rows())
    if errors == len(named):
        said = next(kept.rows())["error"]
        kept.remove()
        raise UserError(said)
    order = _ranked(list(kept.rows())) if options.rank else None
    atomically(out, lambda draft: WRITERS[out.suffix.lower()](kept, draft, order))
    beside = [out.with_suffix("")] if options.explain and out.with_suffix("").is_dir() else []
    if options.embeddings:
        kept.move_features(out.with_suffix(".npy"), order)
        beside.append(out.with_suffix(".npy"))
    first = list(islice(kept.rows(order), _FIRST))
    kept.remove()
    return Written(out, len(named), first, errors, pace, beside)


def _keep_rows(
    model: Model, named: Sequence[tuple[str, Any]], kept: Kept, pictures: Path, options: RowOptions, engine: str
) -> float:
    """Add the rows that are missing; how many a second."""
    done, began = kept.whole_rows(), time.monotonic()
    noun, seen = model.backbone.input.noun, sys.stdout.isatty()
    with kept.path.open("a", encoding="utf-8") as file, Bar(len(named), noun, "predict", seen) as shown:
        shown.advance(done)
        for found in answered(model, [sample for _, sample in named[done:]], engine, options.tta):
            if options.embeddings:
                kept.keep_features(found, done, len(named))
            rows = _rows(model, named, done, found, options)
            if options.explain:
                _explain(model, found, done, rows, pictures)
            file.writelines(json.dumps(row) + "\n" for row in rows)
            file.flush()
            shown.advance(len(rows))
    return (len(named) - done) / max(time.monotonic() - began, 1e-9)


def _rows(
    model: Model, named: Sequence[tuple[str, Any]], done: int, found: Answered, options: RowOptions
) -> list[dict[str, Any]]:
    """A row for every sample of a batch, in order."""
    batch, noun = found.batch, model.backbone.input.noun.removesuffix("s")
    rows: dict[int, dict[str, Any]] = {place: {"error": said} for place, said in batch.errors.items()}
    if found.predictions is not None and found.features is not None:
        answers = model.task.rows(found.predictions, model.calibration.thresholds, options.top)
        if options.neighbours:
            distances = options.neighbours.distances(found.features)
            for answer, distance in zip(answers, distances.tolist(), strict=True):
                answer |= {"distance": distance, "unknown": distance > options.neighbours.threshold}
        rows |= {place: {**row, "error": ""} for place, row in zip(batch.places, answers, strict=True)}
    return [{noun: named[done + place][0], **rows[place]} for place in sorted(rows)]


def _explain(model: Model, found: Answered, done: int, rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Add to the rows of a batch what their answers come from."""
    if found.batch.inputs is None or found.predictions is None:
        return
    names = [f"{done + place:06}" for place in found.batch.places]
    answers = torch.from_numpy(found.predictions.argmax(1))
    network, input = model.network, model.backbone.input
    said = reader_of(model).explain(network, input, found.batch.inputs, answers, names, folder)
    pictures = {f"{name}.png" for name in names}
    for row, text in zip((row for row in rows if not row["error"]), said, strict=True):
        row["explained"] = f"{folder.name}/{text}" if text in pictures else text


def _ranked(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Places of rows, the most telling first: the smallest margins and the largest distances in turn; errors last."""
    margin = np.array([row.get("margin", np.inf) for row in rows])
    distance = np.array([row.get("distance", -np.inf) for row in rows])
    by_margin, by_distance = (key.argsort(kind="stable").argsort() for key in (margin, -distance))
    order: list[int] = np.minimum(by_margin, by_distance).argsort(kind="stable").tolist()
    return sorted(order, key=lambda place: bool(rows[place]["error"]))


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value)) or "-"
