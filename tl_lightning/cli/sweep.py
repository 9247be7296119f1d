"""What a sweep ends with: its runs side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from tl_lightning.errors import UserError
from tl_lightning.runs.sweep_folder import REFUSED


class Summary(Callback):
    """The leaderboard after the last run, as a table and as files in the sweep's folder.

    Ends the program with code 1 and one line if some of the runs could not be made.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print it, and write it."""
        from tl_lightning.cli.tools import show_leaderboard
        from tl_lightning.jobs.leaderboard_page import write

        sweep = Path(config.hydra.sweep.dir)
        try:
            board = show_leaderboard([sweep], {})
            print(write(board, sweep)[-1])
        except UserError as error:  # no run was finished
            print(f"leaderboard: {error}")
        if refused := sorted((p.parent.name for p in sweep.glob(f"*/{REFUSED}")), key=int):
            sys.exit(f"error: {len(refused)} of the sweep's runs could not be made: {', '.join(refused)}")
