"""A Parquet file with a column of images, as bytes or as Hugging Face's datasets keep them, and one of labels."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tl_lightning.data.columns import LABELS, named
from tl_lightning.data.images.shards.record import Record
from tl_lightning.errors import UserError

WINDOW = 4  # row groups that a process keeps, and whose images are shuffled together
_IMAGES = ("image", "img", "picture", "bytes", "content")


class ParquetShard:
    """An open Parquet file. Raises UserError for one that cannot be read, or has no such columns."""

    def __init__(self, file: Path, name: str) -> None:
        try:
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise UserError("Parquet needs pyarrow: pip install 'tl-lightning[parquet]'") from error
        try:
            self.file = parquet.ParquetFile(file)
        except (OSError, ValueError) as error:
            raise UserError(f"{name} cannot be read ({error}): fetch it again") from error
        columns = self.file.schema_arrow.names
        self.image = named(columns, _IMAGES)
        self.label = named(columns, LABELS)
        if self.image is None or self.label is None:
            what = "images" if self.image is None else "labels"
            raise UserError(f"{name} has no column of {what}: it has {', '.join(columns)}")
        self._group = functools.lru_cache(WINDOW)(self._read_group)

    def records(self) -> list[Record]:
        """Row group and row of every image, and its label, under the names that the file gives to numbers."""
        names, found = self._class_names(), []
        for group in range(self.file.num_row_groups):
            for row, value in enumerate(self.file.read_row_group(group, columns=[self.label])[0].to_pylist()):
                label = "" if value is None else names[value] if names and isinstance(value, int) else str(value)
                found.append(Record(f"{group}/{row}", label, group, row))
        return found

    def read(self, record: Record) -> bytes:
        """The image of a record; the row groups that were read last are kept.

        Raises ValueError for a row that holds no bytes.
        """
        value = self._group(record.start)[record.size]
        whole = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(whole, bytes):
            raise ValueError("it holds no bytes")
        return whole

    def _read_group(self, group: int) -> list[Any]:
        return list(self.file.read_row_group(group, columns=[self.image])[0].to_pylist())

    def _class_names(self) -> list[str]:
        """As `datasets` writes them into the file; nothing if it has not."""
        try:
            facts = json.loads((self.file.schema_arrow.metadata or {})[b"huggingface"])
            names = facts["info"]["features"][self.label]["names"]
        except (KeyError, ValueError, TypeError):
            return []
        return [str(name) for name in names]
