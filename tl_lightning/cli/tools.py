"""The verbs that are no Hydra application: their words, and the job they call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_lightning import machine
from tl_lightning.cli.main import one_line_errors
from tl_lightning.config.compose import check_choices, composed, words_of
from tl_lightning.config.settings import Settings, settings_of
from tl_lightning.config.words import arguments
from tl_lightning.errors import UserError, nearest
from tl_lightning.printable import printable

if TYPE_CHECKING:
    from tl_lightning.run import Run

NONE = "null"  # of an option: it is not asked for


@contextmanager
def _tool(argv: Sequence[str]) -> Iterator[None]:
    """While inside, threads are chosen, and errors are one line."""
    machine.set_threads()
    with one_line_errors(debug="debug=true" in argv):
        yield


def advise(argv: Sequence[str]) -> None:
    """Why which strategy, for every backbone that is named; `out=FOLDER` keeps it there, too."""
    with _tool(argv):
        own, words_ = _own(argv, {"out": ""})
        for words in each(arguments(words_), "backbone"):
            settings = _settings([*words, "strategy=auto"])
            from tl_lightning.jobs.advise import advise as job
            from tl_lightning.jobs.advise import lines, write

            advice, evidence = job(settings)
            said = [*lines(settings, advice, evidence), f"paste     {' '.join(words_of('strategy', advice.strategy))}"]
            print("\n".join(said))
            if own["out"]:
                print(write(Path(own["out"]).expanduser(), settings, said, evidence))


def rank(argv: Sequence[str]) -> None:
    """A table of backbones, and a picture. Raises UserError, shown as one line, where no backbone is named."""
    with _tool(argv):
        own, words = _own(argv, {"backbones": "", "out": "rank.png", "download": "false"})
        names = [n.strip() for n in own["backbones"].strip("[]").split(",") if n.strip()]
        if not names:
            from tl_lightning.options import options

            raise UserError(f"backbones=[a,b] must name some of {', '.join(options('backbone'))}")
        settings = {name: _settings([*arguments(words), f"backbone={name}"]) for name in names}
        from tl_lightning.jobs.rank import rank as job

        for line in job(settings, Path(own["out"]).expanduser(), own["download"] == "true"):
            print(line, flush=True)


def predict(argv: Sequence[str]) -> None:
    """A file with a row for each source; the first of them as lines: name, answer, and the numbers behind it."""
    with _tool(argv):
        optional = dict.fromkeys(
            ("out", "text", "engine", "top", "unknown", "embeddings", "explain", "rank", "tta"), NONE
        )
        own, left = _own(argv, {"run": "", "source": "", **optional})
        _refuse_left(left, own)
        from tl_lightning.run import load

        said: dict[str, Any] = {key: own[key] for key in optional if own[key] != NONE}
        said |= {key: _boolean(key, said[key]) for key in ("unknown", "embeddings", "explain") if key in said}
        said |= {"top": int(said["top"])} if said.get("top", "").isdigit() else {}
        path = Path(own["source"]).expanduser()
        written = load(_folder("run", own["run"])).write_predictions(path if path.exists() else own["source"], **said)
        print(printable(str(written), lines=True))


def evaluate(argv: Sequence[str]) -> None:
    """A line for each score; of two runs, a line more that says which is better.

    Raises UserError, shown as one line, for more than two.
    """
    with _tool(argv):
        optional = dict.fromkeys(("data.root", "data.file", "group", "threshold", "tta", "out"), NONE)
        own, left = _own(argv, {"run": "", "split": "val", **optional})
        _refuse_left(left, own)
        from tl_lightning.jobs.fit import quiet
        from tl_lightning.run import load

        quiet()
        names = own["run"].strip("[]").split(",")
        if len(names) > 2:
            raise UserError(f"run={own['run']}: name one run, or two that are compared")
        said = {key: own[key] for key in ("group", "threshold", "tta", "out") if own[key] != NONE}
        if elsewhere := [own[key] for key in ("data.root", "data.file") if own[key] != NONE]:
            said["data"] = elsewhere[0]
        runs = [load(_folder("run", name)) for name in names]
        for run in runs:
            found = run.evaluate(own["split"], **said)
            print(printable(f"{run.path}: {found.samples} {found.noun}\n{found}", lines=True))
        if len(runs) == 2 and not elsewhere:
            print(f"{runs[0].compare(runs[1], own['split'])} (A is {names[0]}, B is {names[1]})")


def export(argv: Sequence[str]) -> None:
    """What became of the network as a file of a format."""
    with _tool(argv):
        own, left = _own(argv, {"run": "", "format": "onnx", "out": NONE})
        _refuse_left(left, own)
        from tl_lightning.jobs.fit import quiet
        from tl_lightning.run import load

        quiet()
        said = {"out": own["out"]} if own["out"] != NONE else {}
        print(load(_folder("run", own["run"])).export(own["format"], **said))


def add_class(argv: Sequence[str]) -> None:
    """What became of old classes and of new ones. Raises UserError, shown as one line, where no data are named."""
    with _tool(argv):
        own, left = _own(argv, {"run": "", "data.root": NONE, "data.file": NONE, "out": NONE})
        _refuse_left(left, own)
        from tl_lightning.jobs.fit import quiet
        from tl_lightning.run import load

        quiet()
        named = [own[key] for key in ("data.root", "data.file") if own[key] != NONE]
        if not named:
            raise UserError("data.root=... (or data.file=... of texts) must be given: the samples of the new class")
        print(load(_folder("run", own["run"])).add_class(named[0], "" if own["out"] == NONE else own["out"]))


def report(argv: Sequence[str]) -> None:
    """Where the page lies."""
    with _written_by(argv) as (run, where):
        print(run.report(where))


def card(argv: Sequence[str]) -> None:
    """Where the model card lies."""
    with _written_by(argv) as (run, where):
        print(run.card(where))


def wise(argv: Sequence[str]) -> None:
    """Accuracy between the pretrained and the fine-tuned network."""
    with _folder_of("run", argv) as folder:
        from tl_lightning.jobs.average import wise as job

        job(folder)


def soup(argv: Sequence[str]) -> None:
    """Which runs of a sweep make the best mean."""
    with _folder_of("sweep", argv) as folder:
        from tl_lightning.jobs.average import soup as job

        job(folder)


def backbones(argv: Sequence[str]) -> None:
    """The table of torchvision's networks."""
    with _tool(argv):
        from tl_lightning.jobs.backbone_table import backbone_table

        print(backbone_table())


def each(words: Sequence[str], group: str) -> Iterator[list[str]]:
    """The words once for every option that they list for a group: backbone=a,b gives two lists."""
    said = next((w for w in words if w.startswith(f"{group}=")), f"{group}=")
    for option in said.partition("=")[2].split(","):
        yield [f"{group}={option}" if w == said else w for w in words]


def _settings(words: Sequence[str]) -> Settings:
    """Of a command line of which no run will come."""
    check_choices(words)
    # a folder may be smaller than a training batch
    return settings_of(composed(["data.batch_size=1", *words]))


def _own(argv: Sequence[str], known: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Values of the words that are this verb's own, and the other words."""
    found, left = dict(known), []
    for word in argv:
        name, equals, value = word.partition("=")
        if name in known and equals:
            found[name] = value
        else:
            left.append(word)
    return found, left


def _boolean(key: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise UserError(f"{key}={value} must be true or false")
    return value == "true"


def _refuse_left(left: Sequence[str], known: dict[str, Any]) -> None:
    """Raise UserError for a word that is none of this verb's, or a value that is missing."""
    if strange := [word for word in left if word != "debug=true"]:
        name = strange[0].partition("=")[0]
        raise UserError(f"{strange[0]}: there is no option '{name}' here: {nearest(name, known)}")
    if missing := [name for name, value in known.items() if not value]:
        raise UserError(f"{missing[0]}=... must be given")


@contextmanager
def _written_by(argv: Sequence[str]) -> Iterator[tuple[Run, str]]:
    """The run, and where what is made of it goes; empty for its own folder. Errors as in `_tool`."""
    with _tool(argv):
        own, left = _own(argv, {"run": "", "out": NONE})
        _refuse_left(left, own)
        from tl_lightning.jobs.fit import quiet
        from tl_lightning.run import load

        quiet()
        yield load(_folder("run", own["run"])), "" if own["out"] == NONE else own["out"]


@contextmanager
def _folder_of(name: str, argv: Sequence[str]) -> Iterator[Path]:
    """The folder that the only word of a verb names, errors as in `_tool`."""
    with _tool(argv):
        own, left = _own(argv, {name: ""})
        _refuse_left(left, own)
        yield _folder(name, own[name])


def _folder(name: str, value: str) -> Path:
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise UserError(f"{name}={value} is no folder")
    return folder
