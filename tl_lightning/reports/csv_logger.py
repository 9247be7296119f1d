"""metrics.csv that a resumed run continues."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from tl_lightning.files import atomically


class ContinuedCSVLogger(Logger):
    """Rows of metrics in `save_dir`/metrics.csv, appended to; a new column is a new file, which is whole or absent.

    Lightning's CSVLogger deletes the rows of the run that is resumed, and rewrites the file where it stands.
    """

    def __init__(self, save_dir: str, name: str = "", version: str | int = "") -> None:
        super().__init__()
        self.path = Path(save_dir, str(name), str(version), "metrics.csv")
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty: a run has one file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them all."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row."""
        row = {"step": step, **{key: float(value) for key, value in metrics.items()}}
        if "epoch" in metrics:
            row["epoch"] = int(metrics["epoch"])
        if self._columns is None:
            self._columns = self._read()[0]
        if set(row) <= set(self._columns):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)
            return
        columns, rows = self._read()
        self._columns = sorted({*columns, *row})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows([*rows, row])
        atomically(self.path, lambda draft: draft.write_text(text.getvalue(), encoding="utf-8", newline=""))

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """The columns and rows that are there."""
        if not self.path.is_file():
            return [], []
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        return list(reader.fieldnames or ()), rows
