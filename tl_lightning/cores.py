"""How many cores this process may use, and how they are shared."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000": a container of two cores; "max 100000": no limit


def usable() -> int:
    """Cores that affinity and a container's quota leave to this process, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return cores


def set_threads() -> None:
    """Choose OpenMP's threads and how they wait, unless the user has; only before torch is imported.

    Threads that spin while they wait starve the loader's processes: on two busy cores a step took thirty times as
    long. So they sleep.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", str(usable()))
