"""The quick sweep: every backbone that is here by an exact head, then the best of them trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from tl_lightning import checks
from tl_lightning.cli.grid import BaseSweeper
from tl_lightning.config.compose import backbones
from tl_lightning.config.product import as_words, combinations
from tl_lightning.errors import UserError


class Quick(BaseSweeper):
    """`strategy=linear_probe` of all backbones whose weights are here, or that are named; `then` of the best `keep`."""

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        keep: int = 2,
        then: Sequence[str] = ("lp_ft", "auto"),
        price: bool = False,
    ) -> None:
        checks.whole("hydra.sweeper.keep", keep, 1)
        self.params, self.price, self.keep, self.then = params, price, keep, list(then)

    def sweep(self, arguments: list[str]) -> None:
        """Run both rounds. Raises UserError where no backbone is here, and for a strategy, of which it has its own."""
        words = [*as_words(self.params), *arguments]
        if named := [word for word in words if word.startswith("strategy=")]:
            raise UserError(f"{named[0]}: sweep=quick has strategies of its own: say hydra.sweeper.then=[lp_ft,auto]")
        if not any(word.startswith("backbone=") for word in words):
            here = self.folder.noted("backbones") or self._here()  # of one that goes on, those that it began with
            self.folder.note(backbones=here)
            words.append(f"backbone={','.join(here)}")
        jobs = combinations([*words, "strategy=linear_probe"])
        self.begin(jobs, len(jobs), ["backbone", "strategy"])
        self.launch(jobs, range(len(jobs)))
        best = self.folder.noted("best") or self._best(jobs)
        self.folder.note(best=best)
        second = [
            [*(word for word in job if not word.startswith("strategy=")), f"strategy={strategy}"]
            for strategy in self.then
            for job in jobs
            if _backbone(job) in best
        ]
        if second:
            print(f"quick     {' and '.join(best)} go on", flush=True)
            self.begin(second, len(jobs) + len(second), ["backbone", "strategy"])
            self.launch(second, range(len(jobs), len(jobs) + len(second)))

    def _here(self) -> list[str]:
        from tl_lightning.backbones.at_hand import images_at_hand

        if not (found := images_at_hand(backbones())):
            raise UserError(
                "sweep=quick: no backbone's weights are here; name some, which are downloaded: backbone=a,b"
            )
        return found

    def _best(self, jobs: Sequence[Sequence[str]]) -> list[str]:
        """The backbones with the best mean scores."""
        scores: dict[str, list[float]] = {}
        for number, job in enumerate(jobs):
            if (score := self.folder.score(number)) is not None:
                scores.setdefault(_backbone(job), []).append(score)
        return sorted(scores, key=lambda name: -fmean(scores[name]))[: self.keep]


def _backbone(job: Sequence[str]) -> str:
    return next((word.removeprefix("backbone=") for word in job if word.startswith("backbone=")), "")
