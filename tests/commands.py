"""Commands as a user types them: processes of their own, their output, their exit code.

Most of what a short command takes is importing torch and Lightning. `tl` runs a program of this package in a fork of a
process that has done so and nothing else: what libraries say while they are imported is not seen. With `fork=False` it
starts from nothing, as does what is no file or finds packages elsewhere, and as must sweeps whose launchers start
processes in ways of their own.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

REPO = Path(__file__).parents[1]
QUICK = ["backbone=mobilenet_v2", "backbone.weights=null", "backbone.image_size=32", "data.batch_size=4",
         "data.workers=0", "trainer=cpu", "trainer.max_epochs=1"]  # fmt: skip


_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tl_lightning.jobs.train", "tl_lightning.cli.sweep"])


def tl(*arguments, cwd, program=(sys.executable, str(REPO / "train.py")), env=None, fork=True):
    command, whole = [*program, *map(str, arguments)], {**os.environ, **(env or {})}
    if fork and command[1].endswith(".py") and "PYTHONPATH" not in whole:
        return _forked(command, str(cwd), whole)
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=whole)


def _forked(command, cwd, env):
    with ExitStack() as files:
        streams = [files.enter_context(tempfile.NamedTemporaryFile("r+")) for _ in range(2)]
        process = _forks.Process(target=_run, args=(command[1:], cwd, env, [file.name for file in streams]))
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, 300)
        return subprocess.CompletedProcess(command, process.exitcode, *(file.read() for file in streams))


def _run(arguments, cwd, env, streams):
    """What `python FILE ...` does once it has imported libraries, with what it says in two files."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for descriptor, name in zip((1, 2), streams, strict=True):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), descriptor)
    sys.argv, sys.path[:0] = arguments, [str(Path(arguments[0]).parent)]
    runpy.run_path(arguments[0], run_name="__main__")


def refused(result, *fragments):
    assert result.returncode == 1, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for fragment in fragments:
        assert fragment in lines[0]
