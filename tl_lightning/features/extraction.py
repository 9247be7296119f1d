"""What one pass looks at, and where its rows belong."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from tl_lightning.batch import Inputs
from tl_lightning.features.views import View


@dataclass
class RowSet:
    """The rows of one view of one split: where they belong, and, once they are there, the array (N, ...).

    Of texts that are not pooled, rows are as long as the longest: (N, T, D + 1).
    """

    split: str
    view: View
    dataset: Any
    shape: tuple[int, ...] = ()
    key: str = ""
    rows: np.ndarray | None = None
    out: BinaryIO | None = field(default=None, repr=False)
    begin: int = 0  # of the first row, in the file
    checksums: np.ndarray | None = field(default=None, repr=False)  # (N,) of the rows in the file

    def put(self, index: np.ndarray, rows: np.ndarray) -> None:
        """The rows (N, ...) of the samples `index` (N,) to their places."""
        if self.out is None:
            assert self.rows is not None
            self.rows[index] = rows
            return
        assert self.checksums is not None
        self.checksums[index] = checksums(rows)
        for run in np.split(np.arange(len(index)), np.flatnonzero(np.diff(index) != 1) + 1):
            self.out.seek(self.begin + int(index[run[0]]) * rows[0].nbytes)
            self.out.write(rows[run].tobytes())


def checksums(rows: np.ndarray) -> np.ndarray:
    """(N,) one of each row (N, ...)."""
    return np.array([zlib.crc32(row.tobytes()) for row in rows], np.uint32)


class Views(Dataset[list[Any]]):
    """All views of a sample, prepared once, by (job, index)."""

    def __init__(self, jobs: Sequence[Sequence[RowSet]]) -> None:
        self.jobs = [(job[0].dataset, [rows.view for rows in job]) for job in jobs]

    def __getitem__(self, key: tuple[int, int]) -> list[Any]:
        dataset, views = self.jobs[key[0]]
        prepared = dataset.prepared(key[1])
        return [view(prepared, key[1]) for view in views]


def by_view(stack: Callable[[Sequence[Any]], Inputs], samples: Sequence[list[Any]]) -> Inputs:
    """(views x samples, ...), or tokens by name: the first view of all samples, then the second."""
    return stack([view for views in zip(*samples, strict=True) for view in views])


def fitted(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Rows of texts (N, T, D + 1) filled with zeros to the longest of all; others as they are."""
    if rows.shape[1:] == shape:
        return rows
    whole = rows.new_zeros(len(rows), *shape)
    whole[:, : rows.shape[1]] = rows
    return whole
