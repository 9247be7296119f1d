"""Where a sample lies in a shard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """An image's `key`, its `label`, and where it lies.

    In a tar file from byte `start`, `size` bytes long; in Parquet row `size` of row group `start`.
    """

    key: str
    label: str
    start: int
    size: int
