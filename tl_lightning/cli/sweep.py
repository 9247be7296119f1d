"""What a sweep ends with: its runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

_SCORES = {"val/accuracy": "accuracy", "val/macro_f1": "macro-F1", "test/accuracy": "test", "seconds/total": "seconds"}


class Summary(Callback):
    """One table after the last run: the words in which the runs differ, beside their scores."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print it."""
        rows = runs(Path(config.hydra.sweep.dir))
        if len(rows) < 2:
            return
        words = [key for key in rows[0][0] if len({row[0].get(key) for row in rows}) > 1]
        scores = [key for key in _SCORES if all(key in row[1] for row in rows)]
        table = Table(*words, *(_SCORES[key] for key in scores))
        for said, metrics in rows:
            values = (f"{metrics[key]:.4f}" if key != "seconds/total" else f"{metrics[key]:.0f}" for key in scores)
            table.add_row(*(said.get(word, "") for word in words), *values)
        console = Console(width=None if Console().is_terminal else 120)
        console.print(table)


def runs(sweep: Path) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Words and metrics of every finished run of a sweep, in its order."""
    found = []
    for folder in sorted((f for f in sweep.iterdir() if f.name.isdigit()), key=lambda f: int(f.name)):
        if (folder / "metrics.json").is_file():
            said = OmegaConf.load(folder / ".hydra" / "overrides.yaml")
            words = dict(str(word).lstrip("+").split("=", 1) for word in said if "=" in str(word))
            found.append((words, json.loads((folder / "metrics.json").read_text(encoding="utf-8"))))
    return found
