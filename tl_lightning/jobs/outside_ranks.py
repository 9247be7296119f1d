"""Ranks that torchrun or srun has started: the first one reads the command line, the others do what it does.

Each would compose the command line on its own otherwise, in a folder of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment


_LAUNCHED = {"TORCHELASTIC_RUN_ID", "SLURM_NTASKS"}  # variables of theirs
_LONG = timedelta(days=30)  # until the first rank has built what is trained, or has found something wrong
_SOON = timedelta(minutes=5)  # until the first rank is there
_stores: list[Any] = []
_published = 0  # runs that were told of


def rank() -> int | None:
    """That of this process among those of torchrun or srun; None where neither has started it with others."""
    if not _LAUNCHED & os.environ.keys():  # answered without importing Lightning
        return None
    place = _environment()
    return None if place is None or place.world_size() == 1 else place.global_rank()


def world_size() -> int:
    """How many processes torchrun or srun has started; 1 where neither has."""
    place = _environment()
    return 1 if place is None else place.world_size()


def _environment() -> ClusterEnvironment | None:
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    found = next((kind for kind in (TorchElasticEnvironment, SLURMEnvironment) if kind.detect()), None)
    return found() if found else None


def publish(run: Path | None, job: str = "", allow: Sequence[str] = ()) -> None:
    """As the first rank: all are to take part in a run by this job now; None: there is none left."""
    global _published
    if rank() == 0:
        said = {"run": str(run.absolute()), "job": job, "allow": list(allow)} if run else {}
        _store().set(_key(), json.dumps(said))
        _published += 1


def next_run() -> tuple[Path, str, tuple[str, ...]] | None:
    """As another rank: the next run to take part in, its job and packages; None: there is none left."""
    global _published
    import torch.distributed as dist

    try:
        _store().wait([_key()], _LONG)
        said = json.loads(_store().get(_key()))
    except dist.DistError:  # the first rank is gone
        return None
    _published += 1
    return (Path(said["run"]), said["job"], tuple(said["allow"])) if said else None


def _key() -> str:
    """Of what is told next, in this attempt of torchrun's."""
    return f"tl_lightning/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{_published}"


def _store() -> Any:
    """What all ranks read: torchrun's own, or one of the first rank's beside the port of the group."""
    import torch.distributed as dist

    if not _stores:
        store: Any = dist.TCPStore  # type: ignore[attr-defined]  # it comes by a star
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            _stores.append(store(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False))
        else:
            place = _environment()
            assert place is not None
            where, is_first = (place.main_address, place.main_port + 1), rank() == 0
            _stores.append(store(*where, None, is_first, timeout=_SOON, wait_for_workers=False))
    return _stores[0]
