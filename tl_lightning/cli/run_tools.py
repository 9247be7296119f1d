"""The verbs of a finished run: their words, and what is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_lightning.cli.own_words import NONE, boolean, folder_of, number, own_words, refuse_left, tool
from tl_lightning.errors import UserError
from tl_lightning.printable import printable

if TYPE_CHECKING:
    from tl_lightning.run import Run


def predict(argv: Sequence[str]) -> None:
    """A file with a row for each source; the first of them as lines: name, answer, and the numbers behind it."""
    with tool(argv):
        optional = dict.fromkeys(
            ("out", "text", "engine", "top", "unknown", "embeddings", "explain", "rank", "tta"), NONE
        )
        own, left = own_words(argv, {"run": "", "source": "", **optional})
        refuse_left(left, own)
        from tl_lightning.run import load

        said: dict[str, Any] = {key: own[key] for key in optional if own[key] != NONE}
        said |= {key: boolean(key, said[key]) for key in ("unknown", "embeddings", "explain") if key in said}
        said |= {"top": int(said["top"])} if said.get("top", "").isdigit() else {}
        path = Path(own["source"]).expanduser()
        written = load(folder_of("run", own["run"])).write_predictions(path if path.exists() else own["source"], **said)
        print(printable(str(written), lines=True))


def evaluate(argv: Sequence[str]) -> None:
    """A line for each score; of two runs, a line more that says which is better.

    Raises UserError, shown as one line, for more than two.
    """
    with tool(argv):
        optional = dict.fromkeys(("data.root", "data.file", "group", "threshold", "tta", "out"), NONE)
        own, left = own_words(argv, {"run": "", "split": "val", **optional})
        refuse_left(left, own)
        from tl_lightning.jobs.fit import quiet

        quiet()
        said = {key: own[key] for key in ("group", "threshold", "tta", "out") if own[key] != NONE}
        if elsewhere := [own[key] for key in ("data.root", "data.file") if own[key] != NONE]:
            said["data"] = elsewhere[0]
        runs = _runs(own["run"])
        for run in runs:
            found = run.evaluate(own["split"], **said)
            print(printable(f"{run.path}: {found.samples} {found.noun}\n{found}", lines=True))
        if own["threshold"] not in (NONE, "none"):
            print("the thresholds are kept: predictions and evaluations obey them; threshold=none takes them back")
        if len(runs) == 2 and not elsewhere:
            print(f"{runs[0].compare(runs[1], own['split'])} (A is {runs[0].path}, B is {runs[1].path})")


def export(argv: Sequence[str]) -> None:
    """What became of the network as a file of a format."""
    with tool(argv):
        own, left = own_words(argv, {"run": "", "format": "onnx", "out": NONE})
        refuse_left(left, own)
        from tl_lightning.jobs.fit import quiet
        from tl_lightning.run import load

        quiet()
        said = {"out": own["out"]} if own["out"] != NONE else {}
        print(load(folder_of("run", own["run"])).export(own["format"], **said))


def serve(argv: Sequence[str]) -> None:
    """Where the server listens."""
    with tool(argv):
        optional = dict.fromkeys(("host", "port", "token", "max_mb", "max_megapixels", "unknown", "engine"), NONE)
        own, left = own_words(argv, {"run": "", **optional})
        refuse_left(left, own)
        from tl_lightning.jobs.fit import quiet
        from tl_lightning.run import load

        quiet()
        said: dict[str, Any] = {key: own[key] for key in optional if own[key] != NONE}
        said |= {key: number(key, said[key]) for key in ("port", "max_mb", "max_megapixels") if key in said}
        said |= {"unknown": boolean("unknown", said["unknown"])} if "unknown" in said else {}
        load(folder_of("run", own["run"])).serve(**said)


def add_class(argv: Sequence[str]) -> None:
    """What became of old classes and of new ones. Raises UserError, shown as one line, where no data are named."""
    with tool(argv):
        own, left = own_words(argv, {"run": "", "data.root": NONE, "data.file": NONE, "out": NONE})
        refuse_left(left, own)
        from tl_lightning.jobs.fit import quiet
        from tl_lightning.run import load

        quiet()
        named = [own[key] for key in ("data.root", "data.file") if own[key] != NONE]
        if not named:
            raise UserError("data.root=... (or data.file=... of texts) must be given: the samples of the new class")
        print(load(folder_of("run", own["run"])).add_class(named[0], "" if own["out"] == NONE else own["out"]))


def report(argv: Sequence[str]) -> None:
    """Where the page lies. Raises UserError, shown as one line, for more than two runs."""
    with tool(argv):
        own, left = own_words(argv, {"run": "", "out": NONE})
        refuse_left(left, own)
        from tl_lightning.jobs.fit import quiet

        quiet()
        out = "" if own["out"] == NONE else own["out"]
        first, *others = _runs(own["run"])
        print(first.report_with(others[0], out) if others else first.report(out))


def card(argv: Sequence[str]) -> None:
    """Where the model card lies."""
    with _written_by(argv) as (run, where):
        print(run.card(where))


def wise(argv: Sequence[str]) -> None:
    """Accuracy between the pretrained and the fine-tuned network."""
    with _of_folder("run", argv) as folder:
        from tl_lightning.jobs.average import wise as job

        job(folder)


def soup(argv: Sequence[str]) -> None:
    """Which runs of a sweep make the best mean."""
    with _of_folder("sweep", argv) as folder:
        from tl_lightning.jobs.average import soup as job

        job(folder)


def _runs(value: str) -> list[Run]:
    """One run, or two of them: A, or [A,B]. Raises UserError for more."""
    from tl_lightning.run import load

    # a name may hold commas, as Hydra's names of a sweep's jobs do
    names = [value] if Path(value).expanduser().is_dir() else [name.strip() for name in value.strip("[]").split(",")]
    if len(names) > 2:
        raise UserError(f"run={value}: name one run, or two that are compared")
    return [load(folder_of("run", name)) for name in names]


@contextmanager
def _written_by(argv: Sequence[str]) -> Iterator[tuple[Run, str]]:
    """The run, and where what is made of it goes; empty for its own folder. Errors as in `tool`."""
    with tool(argv):
        own, left = own_words(argv, {"run": "", "out": NONE})
        refuse_left(left, own)
        from tl_lightning.jobs.fit import quiet
        from tl_lightning.run import load

        quiet()
        yield load(folder_of("run", own["run"])), "" if own["out"] == NONE else own["out"]


@contextmanager
def _of_folder(name: str, argv: Sequence[str]) -> Iterator[Path]:
    """The folder that the only word of a verb names, errors as in `tool`."""
    with tool(argv):
        own, left = own_words(argv, {name: ""})
        refuse_left(left, own)
        yield folder_of(name, own[name])
