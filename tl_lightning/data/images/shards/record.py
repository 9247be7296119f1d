"""Where a sample lies in a shard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """An image's `key`, its `label` (empty: none), and where it lies.

    In a tar file from byte `start`, `size` bytes long; in Parquet in row `start` of the row group `unit`.
    """

    key: str
    label: str
    unit: int
    start: int
    size: int
