"""One odd input: how it is made, what is said to the program, and what shall come of it."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SMALL = ["backbone=mobilenet_v2", "backbone.weights=null", "backbone.image_size=32", "strategy=linear_probe",
         "data.workers=0", "engine=eager", "trainer=cpu", "callbacks.progress=null", "data.cache=off"]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """`make` fills an empty folder and gives the words of `tl train`; `says` is a pattern in what is printed."""

    name: str
    make: Callable[[Path], list[str]]
    rc: int
    says: str
    quick: bool = field(default=False)  # whether nothing is trained


@dataclass(frozen=True)
class Outcome:
    """What came of a case: the exit code, what was printed, and what is wrong about it."""

    rc: int
    output: str
    faults: list[str]


def photos(folder: Path, classes: tuple[str | bytes, ...] = ("a", "b"), number: int = 6) -> Path:
    """A folder of classes of noisy little images; names may be bytes."""
    for k, name in enumerate(classes):
        for i in range(number):
            pixels = np.random.default_rng([k, i]).integers(0, 200, (24, 24, 3)).astype(np.uint8)
            pixels[..., k % 3] += 50
            inside = os.path.join(os.fsencode(folder), os.fsencode(name))
            os.makedirs(inside, exist_ok=True)
            Image.fromarray(pixels).save(os.fsdecode(os.path.join(inside, f"{i}.png".encode())))
    return folder


def trained(root: Path | str, *more: str) -> list[str]:
    """The words that train on a folder."""
    return [f"data.root={root}", *SMALL, *more]


def run(case: Case, folder: Path) -> Outcome:
    """The case in a process of its own: a fork of this one, which has imported everything already."""
    words = case.make(folder)
    out, run_dir = folder / "printed.txt", folder / "run"
    if not any(w.startswith(("hydra.run.dir=", "resume=")) for w in words):
        words = [*words, f"hydra.run.dir={run_dir}"]
    child = os.fork()
    if child == 0:
        _act(words, out, folder)
    rc = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    output = out.read_bytes().decode("utf-8", "backslashreplace")
    return Outcome(rc, output, list(_faults(case, rc, output, folder, run_dir)))


def _act(words: list[str], out: Path, folder: Path) -> None:
    """`python train.py WORDS`, its output in a file. Does not return."""
    code = 99
    try:
        os.chdir(folder)
        sink = os.open(out, os.O_CREAT | os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # of a process that ends here
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
        from tl_lightning.cli.main import train

        train(words)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _faults(case: Case, rc: int, output: str, folder: Path, run_dir: Path):
    if rc != case.rc:
        yield f"rc {rc}, not {case.rc}"
    if not re.search(case.says, output):
        yield f"does not say '{case.says}'"
    if "Traceback" in output or "Logging error" in output:
        yield "a traceback"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", output.replace("\r\n", "\n")):
        yield "control characters in the terminal"
    if rc and len([line for line in output.splitlines() if line.startswith("error: ")]) != 1:
        yield "not one line of error"
    yield from (f"{p.name} is half written" for p in folder.rglob("*.part"))
    for written in run_dir.glob("*.json"):
        try:
            json.loads(written.read_text(encoding="utf-8"), parse_constant=_refuse)
        except ValueError as error:
            yield f"{written.name}: {error}"
    if (folder / "CALLED").exists():
        yield "something of a stranger's was called"


def _refuse(constant: str):
    raise ValueError(f"{constant} in JSON")
