"""The sweep over a grid: its jobs in an order that shares what is computed, priced if asked for, then launched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from tl_lightning import machine
from tl_lightning.cli.main import JobFunction
from tl_lightning.config.product import as_words, combinations, differing, feature_words
from tl_lightning.runs.sweep_folder import SweepFolder


class BaseSweeper(Sweeper):
    """A sweeper with its launcher and its folder."""

    params: Mapping[str, Any] | None = None  # words of a ready sweep
    price: bool = False  # say before the first job how long all will take
    launcher: Launcher
    folder: SweepFolder
    processes: int  # jobs at once on this machine

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """What Hydra gives every sweeper."""
        self.hydra_context, self.config = hydra_context, config
        self.processes = config.hydra.launcher.get("n_jobs") or 1  # of the launchers that share this machine
        if self.processes < 1:  # joblib's own word for all cores
            self.processes = len(machine.gpus()) or max(2, machine.cores() // 2)
            with read_write(config.hydra.launcher):
                config.hydra.launcher.n_jobs = self.processes
        if isinstance(task_function, JobFunction):
            task_function = replace(task_function, processes=self.processes)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.folder = SweepFolder(Path(config.hydra.sweep.dir))

    def begin(self, jobs: Sequence[Sequence[str]], number: int, swept: Sequence[str]) -> None:
        """Refuse jobs that cannot be composed, write down how many come, and say what they will take if asked for.

        `swept`: the words in which they differ.
        """
        unlike = {feature_words(job): job for job in jobs}  # others have the same keys
        self.validate_batch_is_legal(list(unlike.values()))
        OmegaConf.save(self.config, self.folder.path / "multirun.yaml")
        self.folder.expect(number, swept)
        if self.price:
            from tl_lightning.cli.pricing import prices

            print(prices(jobs), flush=True)

    def launch(self, jobs: Sequence[Sequence[str]], numbers: Sequence[int]) -> None:
        """Run these jobs in the folders of these numbers. Raises what a job raises that ends the sweep."""
        placed = [[*job, f"hydra.sweep.subdir={number}"] for job, number in zip(jobs, numbers, strict=True)]
        for result in self.launcher.launch(placed, initial_job_idx=numbers[0]):
            _ = result.return_value  # raises


class Grid(BaseSweeper):
    """Every combination of the words that list several values; `price`: say before the first job how long they take."""

    def __init__(self, params: Mapping[str, Any] | None = None, price: bool = False) -> None:
        self.params, self.price = params, price

    def sweep(self, arguments: list[str]) -> None:
        """Run all jobs. Raises UserError for words that make none."""
        jobs = combinations([*as_words(self.params), *arguments])
        self.begin(jobs, len(jobs), differing(jobs))
        self.launch(jobs, range(len(jobs)))
