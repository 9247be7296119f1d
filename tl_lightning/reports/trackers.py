"""Who shows runs, and how each takes pictures, texts, choices and files: the one place that knows them apart."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from torch import Tensor

from tl_lightning.errors import UserError

_PARENT, _SWEEP = "mlflow.parentRunId", "tl_lightning.sweep"


class TensorBoard(TensorBoardLogger):
    """Lightning's logger with one file of events a run: its own closes the file after every fit, validate and test."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Bring to the disk what has been logged."""
        if self._experiment is not None:
            self.experiment.flush()


class Wandb(WandbLogger):
    """Lightning's logger; offline it sends nothing, nor reports of its errors. Raises UserError without wandb."""

    def __init__(self, save_dir: str, name: str | None = None, *, offline: bool = True, **options: Any) -> None:
        if not find_spec("wandb"):
            raise UserError("logger=wandb needs Weights & Biases: pip install 'tl-lightning[wandb]'")
        if offline:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            os.environ.setdefault("WANDB_SILENT", "true")
        super().__init__(name or Path(save_dir).name, save_dir, offline=offline, **options)


class MLFlow(MLFlowLogger):
    """Lightning's logger into a folder; the runs of a sweep have one parent, named like the `sweep`.

    Raises UserError without mlflow.
    """

    def __init__(
        self, folder: str, sweep: str | None = None, experiment_name: str = "tl_lightning", **options: Any
    ) -> None:
        if not find_spec("mlflow"):
            raise UserError("logger=mlflow needs MLflow: pip install mlflow")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        place = Path(folder).absolute()
        place.mkdir(parents=True, exist_ok=True)
        uri, files = f"sqlite:///{place}/mlflow.db", (place / "files").as_uri()
        with FileLock(place / ".lock"):  # jobs may begin together
            tags = _begun(uri, files, experiment_name, sweep)
        super().__init__(experiment_name, tracking_uri=uri, artifact_location=files, tags=tags, **options)


def _begun(uri: str, files: str, name: str, sweep: str | None) -> dict[str, str]:
    """Begin the experiment, and the run that stands for a sweep, unless there are; the tags of the sweep's runs."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name, artifact_location=files)
    if not sweep:
        return {}
    named = sweep.replace("'", "")  # as the filter takes it
    found = client.search_runs([experiment], f"tags.`{_SWEEP}` = '{named}'")
    if not found:
        found = [client.create_run(experiment, run_name=named, tags={_SWEEP: named})]
        client.set_terminated(found[0].info.run_id)
    return {_PARENT: found[0].info.run_id}


class Writer:
    """Shows what a run has to show on one logger; what that cannot show is left out."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def begin(self, settings: Mapping[str, Any]) -> None:
        """All options of the run by their dotted names."""

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """A picture drawn by matplotlib."""
        raise NotImplementedError

    def image(self, tag: str, image: Tensor, step: int) -> None:
        """A picture (3, H, W) in [0, 1]."""
        raise NotImplementedError

    def text(self, tag: str, text: str, step: int) -> None:
        """Markdown."""
        raise NotImplementedError

    def charts(self, layout: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Curves (patterns of tags) that belong in one chart, by heading and title."""

    def pr_curve(self, tag: str, true: Tensor, probabilities: Tensor) -> None:
        """Precision against recall, of whether each sample is of a class (N,) and how probable that is (N,)."""

    def embedding(self, tag: str, features: Tensor, labels: Sequence[str], pictures: Tensor | None) -> None:
        """Features (N, D) with labels, and pictures (N, 3, H, W) in [0, 1] if there are any."""

    def abort(self) -> None:
        """The run has failed: what comes next in this process is another one."""

    def close(self, chosen: Mapping[str, Any], scores: Mapping[str, float], files: Sequence[Path]) -> None:
        """The choices of the run beside its scores, and the files that it leaves, at the end of what is logged."""
        raise NotImplementedError


class TensorBoardWriter(Writer):
    """Into the file of events."""

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """Under IMAGES."""
        self.logger.experiment.add_figure(tag, figure, step, close=False)

    def image(self, tag: str, image: Tensor, step: int) -> None:
        """Under IMAGES; (3, H, W)."""
        self.logger.experiment.add_image(tag, image, step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Under TEXT."""
        self.logger.experiment.add_text(tag, text, step)

    def charts(self, layout: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Under CUSTOM SCALARS, of which there is one page: a second call takes the place of the first."""
        lines = {heading: {title: ["Multiline", list(tags)] for title, tags in inside.items()}
                 for heading, inside in layout.items()}  # fmt: skip
        self.logger.experiment.add_custom_scalars(lines)

    def pr_curve(self, tag: str, true: Tensor, probabilities: Tensor) -> None:
        """Under PR CURVES; (N,) each."""
        self.logger.experiment.add_pr_curve(tag, true, probabilities)

    def embedding(self, tag: str, features: Tensor, labels: Sequence[str], pictures: Tensor | None) -> None:
        """Under PROJECTOR: (N, D), and pictures (N, 3, H, W)."""
        self.logger.experiment.add_embedding(features, list(labels), pictures, tag=tag)

    def close(self, chosen: Mapping[str, Any], scores: Mapping[str, float], files: Sequence[Path]) -> None:
        """Under HPARAMS; files lie beside the events already."""
        self.logger.log_hyperparams(dict(chosen), dict(scores))
        self.logger.save()
        self.logger.experiment.close()


class WandbWriter(Writer):
    """To Weights & Biases, or into its folder if it is offline."""

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Under CONFIG."""
        self.logger.experiment.config.update(dict(settings), allow_val_change=True)

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """As an image among the charts."""
        import wandb

        self.logger.experiment.log({tag: wandb.Image(figure)})

    def image(self, tag: str, image: Tensor, step: int) -> None:
        """(3, H, W), as an image among the charts."""
        import wandb

        self.logger.experiment.log({tag: wandb.Image(image)})

    def text(self, tag: str, text: str, step: int) -> None:
        """As a page among the charts."""
        import wandb

        self.logger.experiment.log({tag: wandb.Html(f"<pre>{_escaped(text)}</pre>")})

    def abort(self) -> None:
        """End wandb's run, which the next one would write into."""
        self.logger.experiment.finish(exit_code=1)

    def close(self, chosen: Mapping[str, Any], scores: Mapping[str, float], files: Sequence[Path]) -> None:
        """Choices that are no option under CONFIG, scores as the summary, files as an artifact; the run is over."""
        import wandb

        run = self.logger.experiment
        run.config.update({name: value for name, value in chosen.items() if name not in run.config})
        run.summary.update(dict(scores))
        kept = wandb.Artifact(f"model-{run.id}", type="model")
        for file in files:
            kept.add_file(str(file))
        run.log_artifact(kept)
        run.finish()


class MLFlowWriter(Writer):
    """Into MLflow's database and its folder of artifacts."""

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Among the parameters."""
        self.logger.log_hyperparams(dict(settings))

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """Among the artifacts."""
        self.logger.experiment.log_figure(self.logger.run_id, figure, f"figures/{_file(tag)}-{step}.png")

    def image(self, tag: str, image: Tensor, step: int) -> None:
        """(3, H, W), among the artifacts."""
        picture = (image.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
        self.logger.experiment.log_image(self.logger.run_id, picture, f"figures/{_file(tag)}-{step}.png")

    def text(self, tag: str, text: str, step: int) -> None:
        """Among the artifacts."""
        self.logger.experiment.log_text(self.logger.run_id, text, f"texts/{_file(tag)}-{step}.md")

    def abort(self) -> None:
        """Mark it as failed."""
        self.logger.finalize("failed")

    def close(self, chosen: Mapping[str, Any], scores: Mapping[str, float], files: Sequence[Path]) -> None:
        """Choices as tags, for parameters cannot change; scores as metrics, files as artifacts; the run is over."""
        client, run = self.logger.experiment, self.logger.run_id
        for name, value in chosen.items():
            client.set_tag(run, f"chosen.{_file(name)}", str(value))
        self.logger.log_metrics(dict(scores))
        for file in files:
            client.log_artifact(run, str(file), "model")
        self.logger.finalize("success")


WRITERS: Mapping[type[Logger], type[Writer]] = {
    TensorBoardLogger: TensorBoardWriter,
    WandbLogger: WandbWriter,
    MLFlowLogger: MLFlowWriter,
}


def _file(tag: str) -> str:
    return re.sub(r"[^\w.-]+", "_", tag)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
