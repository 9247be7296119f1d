"""A sweep's jobs as Ray's remote functions, on this machine or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from tl_lightning import machine
from tl_lightning.errors import UserError


class OnRay(Launcher):
    """Every job on so many cores and GPUs of a cluster's; `address` None: of this machine's. Needs Ray."""

    def __init__(self, address: str | None = None, cpus: int = 1, gpus: int = 0) -> None:
        self.address, self.cpus, self.gpus = address, cpus, gpus

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """What Hydra gives every launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """What became of the jobs. Raises UserError where Ray is not installed."""
        try:
            import ray
        except ImportError as error:
            raise UserError("hydra/launcher=ray needs Ray: pip install ray") from error
        setup_globals()
        ray.init(self.address, include_dashboard=False, ignore_reinit_error=True, log_to_driver=True)
        run = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)(_run)
        given = ray.put((self.hydra_context, self.config, self.task_function, Singleton.get_state()))
        jobs = [run.remote(given, list(job), initial_job_idx + i, self.cpus) for i, job in enumerate(job_overrides)]
        return list(ray.get(jobs))


def _run(given: tuple[Any, ...], overrides: list[str], number: int, cpus: int) -> JobReturn:
    """One job in a process of Ray's."""
    context, config, task, singletons = given
    os.chdir(config.hydra.runtime.cwd)
    machine.take_share(max(1, machine.cores() // cpus), os.getppid())
    setup_globals()
    Singleton.set_state(singletons)
    job = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job):
        job.hydra.job.id, job.hydra.job.num = f"{job.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(job)
    return run_job(
        hydra_context=context, task_function=task, config=job, job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )  # fmt: skip
