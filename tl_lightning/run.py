"""A finished run from Python: what it scored, what it says of new samples, and how it looks in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_lightning.runs.folder import RunFolder

if TYPE_CHECKING:
    from torch import nn

    from tl_lightning.backbones.backbone import Backbone
    from tl_lightning.data.datamodule import LabelledData
    from tl_lightning.evaluation.comparison import Comparison
    from tl_lightning.jobs.evaluate import Evaluation
    from tl_lightning.jobs.judge import Judge
    from tl_lightning.jobs.predict import Predictions
    from tl_lightning.runs.model import Model


class Run:
    """A run's folder. What it is made of is read when it is first asked for.

    `allow`: packages of your own that the run may be built of; `backbone` (untrained) and `head` (what makes it of the
    width and the first outputs), for a run that was given them as objects.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        allow: Sequence[str] = (),
        backbone: Backbone | None = None,
        head: Callable[..., nn.Module] | None = None,
        data: LabelledData | None = None,
    ) -> None:
        self.folder = RunFolder(Path(folder).expanduser())
        self._allow, self._backbone, self._head, self._data = tuple(allow), backbone, head, data

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @cached_property
    def model(self) -> Model:
        """The network with its best weights, and the task it was trained for. Raises UserError if there is none."""
        from tl_lightning.runs.model import load_model

        return load_model(self.path, self._allow, self._backbone, self._head)

    @property
    def metrics(self) -> dict[str, Any]:
        """Scores of the best weights, seconds, and sizes. Raises UserError if the run was not finished."""
        return self.folder.metrics()

    @property
    def history(self) -> list[dict[str, str]]:
        """The rows of metrics.csv: every epoch's scores, and rates now and then."""
        return self.folder.history()

    def predict(self, source: Any) -> Predictions:
        """What the model says of a file, a folder, a list of them, an array (H, W, 3), a PIL image, a text or texts.

        Raises UserError for what cannot be read, or is of another kind.
        """
        from tl_lightning.jobs.predict import predict

        return predict(self.model, source)

    def evaluate(
        self, split: str = "val", *, group: str = "", threshold: str = "", out: str | Path | None = None
    ) -> Evaluation:
        """Every score of a split with its interval, each class, and the worst mistakes; a mapping of scores.

        Also written into the run's evaluation/, or `out`. `group`: a pattern in paths, or a column of a table; each
        group has one answer. `threshold`: "precision:0.99", "recall:0.9", "f1" or "none", kept in the run and obeyed
        by predictions. Raises UserError if the samples are gone or were given as objects, or an aim is out of reach.
        """
        from tl_lightning.jobs.evaluate import evaluate

        where = None if out is None else Path(out).expanduser()
        return evaluate(self._judge(), self.folder, split, group=group, threshold=threshold, out=where)

    def compare(self, other: Run, split: str = "val") -> Comparison:
        """Whether another run is better on the same samples. Raises UserError where samples or classes differ."""
        from tl_lightning.jobs.evaluate import versus

        return versus(self._judge(), other._judge(), split)

    def _judge(self) -> Judge:
        from tl_lightning.jobs.judge import judge

        return judge(self.path, self._allow, self.model, self._data)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Scores, the task's picture, and what each stage learned."""
        from tl_lightning.reports.run_page import page

        folder = self.folder
        return page(str(self.path), folder.facts(), folder.metrics(), folder.overviews(), self._allow)


def load(run: str | Path, **given: Any) -> Run:
    """The run in a folder: `load(run).predict("new.jpg")`.

    `allow`, `backbone`, `head`: as for Run. Raises UserError if no finished run is there, or it is of another format.
    """
    found = Run(run, **given)
    found.folder.facts()
    return found
