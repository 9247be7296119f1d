"""`plan=true`: what a command would do and take, without doing it; and what a sweep will take."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tl_lightning.config.compose import composed, sweeper_of
from tl_lightning.config.product import as_words, combinations, cost_words
from tl_lightning.config.settings import settings_of
from tl_lightning.config.words import SWEEP, is_sweep
from tl_lightning.errors import UserError
from tl_lightning.printable import printable
from tl_lightning.runs.sweep_folder import duration

if TYPE_CHECKING:
    from tl_lightning.jobs.price import Price

WORD = "plan=true"


def plan(words: Sequence[str]) -> None:
    """Print the phases of a run, or the jobs of a sweep, and their price. Raises UserError for bad input."""
    if resumed := [word for word in words if word.startswith("resume=")]:
        raise UserError(f"plan=true is of runs that are to come: leave out {resumed[0]}")
    if not is_sweep(words):
        with tempfile.TemporaryDirectory() as scratch:
            settings = settings_of(composed(words, scratch))
            from tl_lightning.jobs.price import lines, price

            found, setup = price(settings)
            print(printable("\n".join(lines(found, setup)), lines=True))
        return
    told = [word for word in words if word not in SWEEP and not word.startswith("hydra.sweep.")]
    sweeper, params = sweeper_of(told)
    if sweeper != "grid":
        raise UserError(
            f"plan=true prices grids; the jobs of hydra/sweeper={sweeper} depend on what comes of others: "
            "hydra.sweeper.price=true says before the first one what they would take"
        )
    print(prices(combinations([*as_words(params), *told])))


def prices(jobs: Sequence[Sequence[str]]) -> str:
    """What the jobs of a sweep will take one after the other, each pass over the data counted once."""
    from tl_lightning.jobs.price import Price
    from tl_lightning.reports.markdown import markdown

    groups: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for job in jobs:
        groups.setdefault(cost_words(job), []).append(job)
    common = set.intersection(*(set(words) for words in groups))
    total, passes, rows = 0.0, dict[tuple[str, ...], float](), []
    for number, (words, alike) in enumerate(groups.items(), 1):
        print(f"price     {number} of {len(groups)} kinds of jobs are tried for some seconds", flush=True)
        name = " ".join(word for word in words if word not in common) or "all"
        found = _price(alike[0])
        if not isinstance(found, Price):
            rows.append((name, str(len(alike)), f"not known: {found}", ""))
            continue
        total += found.own * len(alike)
        passes |= found.passes
        rows.append((name, str(len(alike)), f"{found.own:.1f}", f"{sum(found.passes.values()):.1f}"))
    table = markdown(("jobs", "number", "seconds each", "and once, seconds"), rows)
    whole = duration(total + sum(passes.values()))
    return f"{table}\nsweep     {len(jobs)} jobs, about {whole} one after the other on this machine"


def _price(words: Sequence[str]) -> Price | str:
    """Of one job, or why it has none: a sweep goes on with the others."""
    from tl_lightning.jobs.price import price

    with tempfile.TemporaryDirectory() as scratch:
        try:
            return price(settings_of(composed(words, scratch)))[0]
        except Exception as error:  # whatever a job may fail by
            return " ".join(str(error).split())
