"""One run on several processes: a further rank is started on the run's folder, not on the command line again.

Lightning starts ranks by repeating the command line. Inside a sweep that repeats the sweep, and with a sampling
sweeper the ranks of one job train with different values. The run's config.yaml is the one truth, so ranks read it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch.strategies.launchers import subprocess_script
from omegaconf import DictConfig, OmegaConf

import tl_lightning

_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def following(run: Path, job: str = "train") -> Iterator[None]:
    """While inside, Lightning's launcher starts ranks with `follow(run, job)`.

    Afterwards a sweep can start its next job.
    """
    before = {name: os.environ.get(name) for name in _VARIABLES}
    launcher: Any = subprocess_script  # the function is private: lightning is pinned, and a test starts two ranks
    original = launcher._hydra_subprocess_cmd
    launcher._hydra_subprocess_cmd = lambda local_rank: (_command(run, job), os.getcwd())
    try:
        yield
    finally:
        launcher._hydra_subprocess_cmd = original
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _command(run: Path, job: str) -> list[str]:
    root = str(Path(tl_lightning.__file__).parents[1])  # of a checkout that is not installed, too
    call = f"from tl_lightning.runs.ranks import follow; follow({str(run)!r}, {job!r})"
    code = f"import sys; sys.path.insert(0, {root!r}); {call}"
    return [sys.executable, "-c", code]


def follow(run: str, job: str) -> None:
    """Take part as one more rank of the run in this folder; `job` is a module of this room and its function."""
    cfg = OmegaConf.load(Path(run) / "config.yaml")
    assert isinstance(cfg, DictConfig)
    getattr(import_module(f"tl_lightning.runs.{job}"), job)(cfg)
