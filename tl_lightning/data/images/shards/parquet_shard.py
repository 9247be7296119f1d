"""A Parquet file with a column of images, as bytes or as Hugging Face's datasets keep them, and one of labels."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

from tl_lightning.data.columns import LABELS, named
from tl_lightning.data.images.shards.record import Record
from tl_lightning.errors import UserError

WINDOW = 4  # row groups that a process keeps, and whose images are shuffled together
_IMAGES = ("image", "img", "picture", "bytes", "content")
_kept: OrderedDict[tuple[object, int], list[Any]] = OrderedDict()  # of this process: the row groups read last


class ParquetShard:
    """An open Parquet file. Raises UserError for one that cannot be read, or has no such columns."""

    anywhere: ClassVar[bool] = False  # a row comes with its group

    def __init__(self, file: Path, name: str) -> None:
        try:
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise UserError("Parquet needs pyarrow: pip install 'tl-lightning[parquet]'") from error
        try:
            self.file, self.name, self.token = parquet.ParquetFile(file), name, object()  # of this file as it is now
        except (OSError, ValueError) as error:
            raise UserError(f"{name} cannot be read ({error}): fetch it again") from error
        columns = self.file.schema_arrow.names
        self.image = named(columns, _IMAGES)
        self.label = named(columns, LABELS)
        if self.image is None or self.label is None:
            what = "images" if self.image is None else "labels"
            raise UserError(f"{name} has no column of {what}: it has {', '.join(columns)}")

    def records(self) -> list[Record]:
        """Row group and row of every image, and its label, under the names that the file gives to numbers.

        Raises UserError for a number that has no name.
        """
        names, found = self._class_names(), []
        for group in range(self.file.num_row_groups):
            for row, value in enumerate(self.file.read_row_group(group, columns=[self.label])[0].to_pylist()):
                found.append(Record(f"{group}/{row}", self._named(value, names), group, row, 0))
        return found

    def read(self, record: Record) -> bytes:
        """The image of a record; the row groups that were read last are kept.

        Raises ValueError for a row that holds no bytes.
        """
        key = (self.token, record.unit)
        if key not in _kept:
            _kept[key] = self.file.read_row_group(record.unit, columns=[self.image])[0].to_pylist()
            while len(_kept) > WINDOW:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        value = _kept[key][record.start]
        whole = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(whole, bytes):
            raise ValueError("it holds no bytes")
        return whole

    def close(self) -> None:
        """Give the file back."""
        self.file.close()

    def _named(self, value: Any, names: list[str]) -> str:
        """A label as text; -1 is how `datasets` marks what has none."""
        if value is None or (names and value == -1):
            return ""
        if not (names and isinstance(value, int)):
            return str(value)
        if not 0 <= value < len(names):
            raise UserError(f"{self.name} has the label {value}, and names for 0 to {len(names) - 1}")
        return names[value]

    def _class_names(self) -> list[str]:
        """As `datasets` writes them into the file; nothing if it has not."""
        try:
            facts = json.loads((self.file.schema_arrow.metadata or {})[b"huggingface"])
            names = facts["info"]["features"][self.label]["names"]
        except (KeyError, ValueError, TypeError):
            return []
        return [str(name) for name in names]
