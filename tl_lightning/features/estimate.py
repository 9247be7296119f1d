"""What a pass will take, from a little of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tl_lightning.features.extract import Extractor
from tl_lightning.features.extraction import RowSet
from tl_lightning.features.views import View


@dataclass(frozen=True)
class PassEstimate:
    """Seconds and bytes of the rows that no earlier run has kept, their keys in the cache, and the shape of a row."""

    seconds: float
    bytes: int
    keys: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]  # by split


def estimate_pass(extractor: Extractor, wanted: Sequence[tuple[str, View]], limit: float) -> PassEstimate:
    """What `extractor.rows(wanted)` would take, from as much of it as `limit` seconds allow; nothing is kept."""
    parts = extractor.parts(wanted)
    missing = extractor.missing(parts)
    seconds = _seconds(extractor, missing, limit) if missing else 0.0
    keys = tuple(part.key for part in missing)
    return PassEstimate(seconds, extractor.size(missing), keys, {part.split: part.shape for part in parts})


def _seconds(extractor: Extractor, missing: Sequence[RowSet], limit: float) -> float:
    total, done, start = sum(len(part.dataset) for part in missing), 0, 0.0
    began = time.perf_counter()
    for _, _, rows in extractor.stream(missing):
        spent = time.perf_counter() - began
        if not start:  # until then the engine was built and the loader's processes were started
            start = spent
            continue
        done += len(rows)
        if spent - start > limit:
            break
    return start + (time.perf_counter() - began - start) / done * total if done else time.perf_counter() - began
