"""What this process may use of the machine: cores and memory, less what a container does not give it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

RAM_SHARE = 0.25  # of the memory that is free, for what is kept there
_BESIDE = "TL_PROCESSES"  # how many processes share this machine
_CHOSEN = "TL_THREADS"  # how many threads set_threads has chosen
_held: list[FileLock] = []
_CGROUP = Path("/sys/fs/cgroup")  # of a container (version 2); elsewhere its files are not there


def cores() -> int:
    """Cores that affinity, a container's quota and the processes beside it leave to this process, at least 1."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()  # "200000 100000": two cores; "max 100000": no limit
        found = min(found, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, found // int(os.environ.get(_BESIDE, 1)))


def gpus() -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; found without torch."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in chosen.split(",") if name]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def take_share(processes: int, launcher: int) -> None:
    """Take a share of the cores and, in turn, one of the GPUs, as one of so many processes of a launcher.

    `launcher`: its process's number. Before torch is imported; once is enough. The place in the turn is held by a lock
    until this process ends.
    """
    if processes == 1 or _BESIDE in os.environ:
        set_threads()
        return
    os.environ[_BESIDE] = str(processes)
    if os.environ.get("OMP_NUM_THREADS") == os.environ.get(_CHOSEN):  # nobody but the launcher has said so
        os.environ["OMP_NUM_THREADS"] = str(cores())
    set_threads()
    devices = gpus()
    for place in range(processes if devices else 0):
        lock = FileLock(Path(tempfile.gettempdir(), f"tl_lightning-{launcher}-{place}.lock"))
        with suppress(Timeout):
            lock.acquire(timeout=0)
            _held.append(lock)
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]
            return


def free_memory() -> float:
    """Bytes that can be had without swapping, within a container's limit; inf where the system does not say."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = float(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return float("inf")
    try:
        limit, taken = (float((_CGROUP / f"memory.{what}").read_text()) for what in ("max", "current"))
        counts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, max(0.0, limit - taken + float(counts["inactive_file"])))  # files read, of which it can let go
    except (OSError, KeyError, ValueError):  # "max": no limit
        pass
    return free


def reset_peak() -> None:
    """Count the largest memory of this process from now on; where the system does not let us, from its start."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_memory() -> float | None:
    """Bytes of memory that this process held at most; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def set_threads() -> None:
    """Choose OpenMP's threads and how they wait, unless the user has; only before torch is imported.

    Threads that spin while they wait starve the loader's processes: on two busy cores a step took thirty times as
    long. So they sleep.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = os.environ[_CHOSEN] = str(cores())
