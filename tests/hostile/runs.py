"""Runs' folders from somebody else, damaged, or in use."""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml
from filelock import FileLock

from tests.hostile.case import SMALL, Case, photos

_held: list[FileLock] = []


@functools.cache
def _finished() -> Path:
    """A run of two epochs on a folder of photos beside it."""
    from tl_lightning.cli.main import train

    home = Path(tempfile.mkdtemp(prefix="tl-run-"))
    words = [w for w in SMALL if not w.startswith("strategy=")]
    child = os.fork()
    if child == 0:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        try:
            train([f"data.root={photos(home / 'p')}", *words, "strategy=feature_extraction", "data.batch_size=4",
                   "trainer.max_epochs=2", f"hydra.run.dir={home}/run"])  # fmt: skip
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (home / "run" / "metrics.json").is_file()
    return home


def _resumed(change: Callable[[Path], object], words: tuple[str, ...], folder: Path) -> list[str]:
    shutil.copytree(_finished() / "run", folder / "r")
    change(folder / "r")
    return [f"resume={folder}/r", *words]


def _config(**changed: object) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        values = yaml.safe_load((run / "config.yaml").read_text())
        for key, value in changed.items():
            *groups, last = key.split("__")
            node = values
            for group in groups:
                node = node[group]
            node[last] = value
        (run / "config.yaml").write_text(yaml.safe_dump(values))

    return change


class _Evil:
    def __reduce__(self):
        return (open, ("CALLED", "w"))


def _linked(name: str) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        if (run / name).is_dir():
            shutil.rmtree(run / name)
        else:
            (run / name).unlink()
        (run / name).symlink_to("/tmp")

    return change


def _hold(run: Path) -> None:
    _held.append(FileLock(run / ".lock"))
    _held[-1].acquire()


EVIL = {"_target_": "builtins.open", "file": "CALLED", "mode": "w"}
LAUGHS = "\n".join(["a0: &a0 [x,x]", *(f"a{i}: &a{i} [*a{i - 1},*a{i - 1}]" for i in range(1, 40)), "format: 1"])
MORE = ("trainer.max_epochs=3",)
BAD: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {
    "nothing left to do": (lambda r: None, (), "has trained its 2 epochs"),
    "another strategy": (lambda r: None, ("strategy=lp_ft", *MORE), "a resumed run keeps its strategy"),
    "a target of a stranger": (_config(head=EVIL), MORE, "may not be built"),
    "a target inside of a value": (_config(head__dropout=EVIL), MORE, "may not be built"),
    "a private target of ours": (_config(head___target_="tl_lightning.store.clear"), MORE, "may not be built"),
    "an interpolation that builds": (_config(head__dropout="${oc.create:{_target_: builtins.open}}"), MORE, "is not resolved"),
    "an interpolation of the environment": (_config(seed="${oc.env:HOME}"), MORE, "is not resolved"),
    "packages that it would admit": (_config(allow=["os"]), MORE, "a file admits no packages"),
    "an option that there is not": (_config(shell="rm"), MORE, "there is no option 'shell'"),
    "another format": (_config(format=99), MORE, "is not of format 1"),
    "a configuration that is a list": (lambda r: (r / "config.yaml").write_text("[1]"), MORE, "holds no mapping"),
    "a configuration that is no YAML": (lambda r: (r / "config.yaml").write_text("a: [b"), MORE, "is damaged"),
    "a tag of Python in YAML": (lambda r: (r / "config.yaml").write_text("a: !!python/object/apply:os.system [x]"), MORE,
                                "is damaged"),
    "a billion values": (lambda r: (r / "config.yaml").write_text(LAUGHS), MORE, "is damaged"),
    "checkpoints elsewhere": (_config(callbacks__best__dirpath="/tmp/elsewhere"), MORE, "leads out of the run's folder"),
    "a logger that climbs": (_config(logger__csv__save_dir="../../up"), MORE, "leads out of the run's folder"),
    "a name that climbs": (_config(callbacks__last__filename="../../last"), MORE, "leads out of the run's folder"),
    "checkpoints as a link": (_linked("checkpoints"), MORE, "a link that leads out"),
    "metrics.csv as a link": (_linked("metrics.csv"), MORE, "a link that leads out"),
    "code in the checkpoints": (lambda r: [p.write_bytes(pickle.dumps(_Evil())) for p in (r / "checkpoints").iterdir()], MORE,
                                "last.ckpt cannot be read"),
    "no checkpoint": (lambda r: shutil.rmtree(r / "checkpoints"), MORE, "last.ckpt is missing"),
    "no splits": (lambda r: (r / "splits.csv").unlink(), MORE, "splits.csv is missing"),
    "splits that climb": (lambda r: (r / "splits.csv").open("a").write("../x.png,train,a,\n"), MORE, "not below data.root"),
    "classes of another run": (lambda r: (r / "splits.csv").write_text(
        (r / "splits.csv").read_text().replace(",b,", ",z,")), MORE, "the checkpoint is of another run"),
    "in use": (_hold, MORE, "another process is training"),
    "a file in place of the folder": (lambda r: (shutil.rmtree(r), r.write_text("x")), MORE, "cannot be resumed"),
}  # fmt: skip
GOOD: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {
    "one epoch more": (lambda r: None, MORE, r"epoch +2 "),
    "a last checkpoint that is cut": (
        lambda r: (r / "checkpoints/last.ckpt").write_bytes(b"PK"),
        MORE,
        "the one before",
    ),
    "killed before the model was written": (lambda r: (r / "model.safetensors").unlink(), (), r"val +accuracy"),
    "a row cut short in metrics.csv": (lambda r: (r / "metrics.csv").open("a").write("1,0."), MORE, r"epoch +2 "),
    "no metrics.csv": (lambda r: (r / "metrics.csv").unlink(), MORE, r"epoch +2 "),
    "a lock that was left": (lambda r: (r / ".lock").touch(), MORE, r"epoch +2 "),
    "a link that stays inside": (lambda r: (r / "best").symlink_to("checkpoints"), MORE, r"epoch +2 "),
}


def _again(folder: Path) -> list[str]:
    shutil.copytree(_finished() / "run", folder / "r")
    return [f"data.root={_finished() / 'p'}", *SMALL, f"hydra.run.dir={folder}/r"]


def _relative(folder: Path) -> list[str]:
    shutil.copytree(_finished() / "run", folder / "r")
    return [f"resume=../{folder.name}/r", *MORE]


CASES = [
    *(Case(f"run: {name}", partial(_resumed, change, words), 1, says) for name, (change, words, says) in BAD.items()),
    *(Case(f"run: {name}", partial(_resumed, change, words), 0, says) for name, (change, words, says) in GOOD.items()),
    Case("run: by a path that climbs and comes back", _relative, 0, r"epoch +2 "),
    Case("run: a second one into its folder", _again, 1, "already holds a run", quick=True),
]
