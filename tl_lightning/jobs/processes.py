"""One run on several processes: a further rank is started on the run's folder, not on the command line again.

Lightning starts ranks by repeating the command line. Inside a sweep that repeats the sweep, and with a sampling
sweeper the ranks of one job train with different values. The run's config.yaml is the one truth, so ranks read it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch.distributed as dist

import tl_lightning
from tl_lightning.compat import launching
from tl_lightning.runs.folder import RunFolder

_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def following(run: Path, job: str = "train", allow: Sequence[str] = ()) -> Iterator[None]:
    """While inside, Lightning's launcher starts ranks with `follow(run, job, allow)`.

    Afterwards a sweep can start its next job.
    """
    before = {name: os.environ.get(name) for name in _VARIABLES}
    try:
        with launching(_command(run, job, allow)):
            yield
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def first_rank() -> bool:
    """Whether this process is the one that the user has started, or the first of those that a cluster has."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


def _command(run: Path, job: str, allow: Sequence[str]) -> list[str]:
    root = str(Path(tl_lightning.__file__).parents[1])  # of a checkout that is not installed, too
    call = f"from tl_lightning.jobs.processes import follow; follow({str(run)!r}, {job!r}, {tuple(allow)!r})"
    code = f"import sys; sys.path.insert(0, {root!r}); {call}"
    return [sys.executable, "-c", code]


def follow(run: str, job: str, allow: Sequence[str] = ()) -> None:
    """Take part as one more rank of the run in this folder; `job` is a module of this room that has a `follow`."""
    import_module(f"tl_lightning.jobs.{job}").follow(RunFolder(Path(run)), tuple(allow))
