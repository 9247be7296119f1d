"""metrics.csv that a resumed run continues."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only


class ContinuedCSVLogger(CSVLogger):
    """Lightning's CSV logger, which would delete the rows of the run that is being resumed."""

    @property
    def experiment(self) -> Any:
        """The writer; at first use the rows that are already there are handed to it."""
        if self._experiment is None and getattr(rank_zero_only, "rank", 0) == 0:
            path = Path(self.log_dir) / "metrics.csv"
            earlier = path.read_text() if path.is_file() else ""
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "files will be deleted": not these
                writer: Any = super().experiment
            if earlier:
                path.write_text(earlier)
                writer.metrics_keys = next(csv.reader(io.StringIO(earlier)))
        return super().experiment
