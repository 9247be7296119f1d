"""The verbs that ask about data and backbones, without a run: their words, and the job they call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tl_lightning.cli.own_words import NONE, own_words, tool
from tl_lightning.config.compose import check_choices, composed, words_of
from tl_lightning.config.settings import Settings, settings_of
from tl_lightning.config.words import arguments
from tl_lightning.errors import UserError
from tl_lightning.printable import printable

if TYPE_CHECKING:
    from tl_lightning.jobs.leaderboard import Leaderboard


def doctor(argv: Sequence[str]) -> None:
    """A line for each finding, with what to do; `out=FOLDER` keeps a page, `write=FILE` a table without what was found.

    Raises UserError, shown as one line, for data that cannot be read at all.
    """
    with tool(argv):
        own, words = own_words(argv, {"out": "", "write": ""})
        settings = _settings([*arguments(words), "strategy=linear_probe", "doctor=full"])
        from tl_lightning.jobs.doctor import doctor as job
        from tl_lightning.reports.doctor_page import lines, verdict

        found = job(settings)
        print(printable(found.title))
        print("\n".join(printable(line, lines=True) for line in [*lines(found.issues), verdict(found.issues)]))
        if own["out"]:
            print(found.write(Path(own["out"]).expanduser()))
        if own["write"]:
            print(printable(found.write_clean(Path(own["write"]).expanduser())))


def advise(argv: Sequence[str]) -> None:
    """Why which strategy, for every backbone that is named; `out=FOLDER` keeps it there, too."""
    with tool(argv):
        own, words_ = own_words(argv, {"out": ""})
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
    with tool(argv):
        own, words = own_words(argv, {"backbones": "", "out": "rank.png", "download": "false"})
        names = [n.strip() for n in own["backbones"].strip("[]").split(",") if n.strip()]
        if not names:
            from tl_lightning.options import options

            raise UserError(f"backbones=[a,b] must name some of {', '.join(options('backbone'))}")
        settings = {name: _settings([*arguments(words), f"backbone={name}"]) for name in names}
        from tl_lightning.jobs.rank import rank as job

        for line in job(settings, Path(own["out"]).expanduser(), own["download"] == "true"):
            print(line, flush=True)


def leaderboard(argv: Sequence[str]) -> None:
    """The table of the runs in some folders, and what it says. Raises UserError, shown as one line, for none."""
    with tool(argv):
        own, places = own_words(argv, {"out": NONE, "where": NONE, "sort": NONE})
        if strange := [place for place in places if "=" in place and place != "debug=true"]:
            raise UserError(f"{strange[0]}: the options are out=, where=WORD=VALUE and sort=; folders stand alone")
        folders = [Path(place).expanduser() for place in places if "=" not in place] or [Path("multirun")]
        where = {} if own["where"] == NONE else dict(part.partition("=")[::2] for part in own["where"].split(","))
        board = show_leaderboard(folders, where, "" if own["sort"] == NONE else own["sort"])
        out = folders[0] if own["out"] == NONE else Path(own["out"]).expanduser()
        from tl_lightning.jobs.leaderboard_page import write

        print(", ".join(map(str, write(board, out))))


def show_leaderboard(folders: Sequence[Path], where: Mapping[str, str], sort: str = "") -> Leaderboard:
    """Print the table and what it says. Raises UserError where there is no finished run."""
    from rich.console import Console

    from tl_lightning.jobs.leaderboard import leaderboard as job
    from tl_lightning.jobs.leaderboard_page import lines, terminal

    board = job(folders, where, sort)
    Console(width=None if Console().is_terminal else 120).print(terminal(board))
    print("\n".join(printable(line) for line in lines(board)))
    return board


def backbones(argv: Sequence[str]) -> None:
    """The table of torchvision's networks."""
    with tool(argv):
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
