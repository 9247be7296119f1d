"""What a sweep ends with: its runs side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from tl_lightning.cli.main import REFUSED
from tl_lightning.runs.folder import RunFolder

_SCORES = {
    "val/accuracy": "accuracy", "val/macro_f1": "macro-F1", "val/rmse": "RMSE", "val/r2": "R2",
    "test/accuracy": "test", "test/rmse": "test RMSE", "seconds/total": "seconds",
}  # fmt: skip


class Summary(Callback):
    """One table after the last run: the words in which the runs differ, beside their scores.

    Ends the program with code 1 and one line if some of the runs could not be made.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print it."""
        sweep = Path(config.hydra.sweep.dir)
        rows = runs(sweep)
        if len(rows) > 1:
            _print(rows)
        if refused := sorted((p.parent.name for p in sweep.glob(f"*/{REFUSED}")), key=int):
            sys.exit(f"error: {len(refused)} of the sweep's runs could not be made: {', '.join(refused)}")


def _print(rows: list[tuple[dict[str, str], dict[str, Any]]]) -> None:
    words = [key for key in rows[0][0] if len({row[0].get(key) for row in rows}) > 1]
    scores = [key for key in _SCORES if all(key in row[1] for row in rows)]
    table = Table(*words, *(_SCORES[key] for key in scores))
    for said, metrics in rows:
        values = (f"{metrics[key]:.0f}" if key == "seconds/total" else f"{metrics[key]:.4f}" for key in scores)
        table.add_row(*(said.get(word, "") for word in words), *values)
    Console(width=None if Console().is_terminal else 120).print(table)


def runs(sweep: Path) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Words and metrics of every finished run of a sweep, in its order."""
    found = []
    for folder in sorted((f for f in sweep.iterdir() if f.name.isdigit()), key=lambda f: int(f.name)):
        run = RunFolder(folder)
        if run.metrics_file.is_file():
            said = OmegaConf.load(folder / ".hydra" / "overrides.yaml")
            words = dict(str(word).lstrip("+").split("=", 1) for word in said if "=" in str(word))
            found.append((words, run.metrics()))
    return found
