"""A run's folder from Python, and what is made of it when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_lightning.runs.folder import RunFolder

if TYPE_CHECKING:
    from torch import nn

    from tl_lightning.backbones.backbone import Backbone
    from tl_lightning.data.datamodule import LabelledData
    from tl_lightning.evaluation.neighbours import Neighbours
    from tl_lightning.jobs.feature_index import FeatureIndex
    from tl_lightning.jobs.judge import Judge
    from tl_lightning.runs.model import Model


class OpenedRun:
    """A run's folder, its model, its samples, and what it has seen.

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

    def _calibrated(self) -> Model:
        """The model with the temperature and the thresholds that the folder holds now."""
        return replace(self.model, calibration=self.folder.calibration())

    def _writable(self) -> RunFolder:
        """The folder, of which no link leads out: it may come from a stranger. Raises UserError for one that does."""
        self.folder.refuse_links_out()
        return self.folder

    def _judge(self) -> Judge:
        from tl_lightning.jobs.judge import judge

        return judge(self.path, self._allow, self.model, self._data)

    def _index(self) -> FeatureIndex:
        """What the run has seen. Raises UserError if it is not kept yet and the samples are gone."""
        from tl_lightning.jobs.feature_index import feature_index

        return feature_index(self._writable(), self.model.backbone.feature_dim, self._judge)

    def _neighbours(self) -> Neighbours:
        return self._index().neighbours()
