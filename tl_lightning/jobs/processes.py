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

import torch
import torch.distributed as dist

import tl_lightning
from tl_lightning.compat import launching
from tl_lightning.errors import UserError
from tl_lightning.jobs import outside_ranks
from tl_lightning.runs.folder import RunFolder

_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def following(run: Path, job: str = "train", allow: Sequence[str] = ()) -> Iterator[None]:
    """While inside, Lightning's launcher starts ranks with `follow(run, job, allow)`.

    Afterwards a sweep can start its next job. Raises UserError where another process of the job has died.
    """
    before = {name: os.environ.get(name) for name in _VARIABLES}
    dead: list[str] = []
    try:
        outside_ranks.publish(run, job, allow)
        with launching(_command(run, job, allow)) as dead:
            yield
    except UserError:
        raise
    except (RuntimeError, KeyboardInterrupt) as error:
        if why := _lost(error, dead):
            raise UserError(f"{why}; go on with resume={run} if an epoch was finished") from error
        raise
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _lost(error: BaseException, dead: Sequence[str]) -> str:
    """Which process of a job has died, and what to do; empty if it was none."""
    message = " ".join(str(error).split())
    if "DataLoader worker (pid" in message:  # one that has raised is a worker without a number
        return f"a loader process has died, as it does where memory runs out: take fewer data.workers ({message[:120]})"
    if isinstance(error, torch.OutOfMemoryError):
        return "the device's memory is full: take a smaller data.batch_size, or trainer.precision=bf16-mixed"
    if not dead and ("Connection closed by peer" in message or "Connection reset by peer" in message):
        return f"another rank has died: {message[:120]}"
    return f"{dead[0]}, what it said stands above" if dead else ""


def first_rank() -> bool:
    """Whether this process is the one that the user has started, or the first of those that a cluster has."""
    return all(int(os.environ.get(name, 0)) == 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def _command(run: Path, job: str, allow: Sequence[str]) -> list[str]:
    root = str(Path(tl_lightning.__file__).parents[1])  # of a checkout that is not installed, too
    call = f"from tl_lightning.jobs.processes import follow; follow({str(run)!r}, {job!r}, {tuple(allow)!r})"
    code = f"import sys; sys.path.insert(0, {root!r}); {call}"
    return [sys.executable, "-c", code]


def refuse_ranks(world_size: int) -> None:
    """Raise UserError where torchrun or srun has started other ranks than the trainer has been told of."""
    started = outside_ranks.world_size()
    if outside_ranks.rank() is not None and started != world_size:
        raise UserError(
            f"{started} processes were started, the trainer has been told of {world_size}: say trainer.devices (of one "
            "machine), trainer.num_nodes and trainer.strategy (ddp, or fsdp2)"
        )


def follow_all() -> None:
    """As a further rank of torchrun's or srun's: take part in whatever runs the first one begins."""
    while said := outside_ranks.next_run():
        run, job, allow = said
        follow(str(run), job, allow)


def follow(run: str, job: str, allow: Sequence[str] = ()) -> None:
    """Take part as one more rank of the run in this folder; `job` is a module of this room that has a `follow`."""
    import_module(f"tl_lightning.jobs.{job}").follow(RunFolder(Path(run)), tuple(allow))
