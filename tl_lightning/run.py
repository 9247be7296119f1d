"""A finished run from Python: what it scored, what it says of new samples, and how it looks in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_lightning.errors import UserError
from tl_lightning.opened_run import OpenedRun

if TYPE_CHECKING:
    from fastapi import FastAPI

    from tl_lightning.evaluation.comparison import Comparison
    from tl_lightning.jobs.add_class import Extended
    from tl_lightning.jobs.evaluate import Evaluation
    from tl_lightning.jobs.export import Exported
    from tl_lightning.jobs.predict import Predictions
    from tl_lightning.jobs.prediction_file import Written


class Run(OpenedRun):
    """A run's folder. What it is made of is read when it is first asked for."""

    def predict(self, source: Any, *, tta: str = "") -> Predictions:
        """What the model says of a file, a folder, a list of them, an array (H, W, 3), a PIL image, a text or texts.

        `tta` "flip": the mean over images and their mirror images; "crops": and their corners, enlarged, which takes
        ten times as long. Raises UserError for what cannot be read, or is of
        another kind.
        """
        from tl_lightning.jobs.predict import predict

        return predict(self._calibrated(), source, tta=tta)

    def write_predictions(
        self,
        source: Any,
        out: str | Path = "",
        *,
        text: str | None = None,
        engine: str = "auto",
        unknown: bool = False,
        **options: Any,
    ) -> Written:
        """A file with a row for every source, also for those that cannot be read: .csv, .jsonl or .parquet.

        `out`: predictions.csv of the run if it is not said. `source`: as for predict, a pattern ("new/*.jpg"), a .txt
        of paths, or of texts a file, whose column `text` holds them. `unknown`: the distance to the training samples,
        and whether it is larger than theirs to one another. `options`: `top`, classes in a row; `embeddings`, features
        in a .npy beside; `explain`, heat maps in a folder beside, or words; `rank` "label_next", what tells most when
        it is labelled first. A call that was killed goes on where it was. Raises UserError for what is not there or is
        of another kind, and where nothing can be read.
        """
        from tl_lightning.jobs.predict import sources
        from tl_lightning.jobs.prediction_file import RowOptions, write_predictions

        model, folder = self._calibrated(), self._writable()
        known = unknown or options.get("rank") == "label_next"
        chosen = RowOptions(neighbours=self._neighbours() if known else None, **options)
        where = Path(out).expanduser() if out else folder.predictions
        return write_predictions(model, folder.weights_file, sources(model, source, text), where, chosen, engine)

    def evaluate(
        self,
        split: str = "val",
        *,
        data: str | Path = "",
        group: str = "",
        threshold: str = "",
        tta: str = "",
        out: str | Path = "",
    ) -> Evaluation:
        """Every score of a split with its interval, each class, and the worst mistakes; a mapping of scores.

        Also written into the run's evaluation/, or `out`. `data`: another folder of class folders, or another table, in
        place of a split. `group`: a pattern in paths, or a column of a table; each group has one answer. `threshold`:
        "precision:0.99", "recall:0.9", "f1" or "none", chosen on the validation samples, kept in the run and obeyed by
        predictions. `tta` as for `predict`. Raises UserError if the samples are
        gone or were given as objects, for labels that the run does not know, and if an aim is out of reach.
        """
        from tl_lightning.jobs.evaluate import evaluate, evaluate_elsewhere

        where = Path(out).expanduser() if out else None
        if not data:
            return evaluate(
                self._judge(), self._writable(), split, group=group, threshold=threshold, tta=tta, out=where
            )
        if threshold:
            raise UserError("a threshold is chosen on the run's own validation samples: name no other data beside it")
        elsewhere = Path(data).expanduser()
        return evaluate_elsewhere(
            self.model, self._writable(), elsewhere, group=group, tta=tta, out=where, allow=self._allow
        )

    def export(self, format: str = "onnx", out: str | Path = "") -> Exported:
        """The network as a file that other programs run: "onnx", "onnx_int8", "onnx_resize" or "torch_export".

        In the run's export/, or `out`. Samples go in, probabilities come out; a program that uses the file lies beside
        it. "safetensors": the weights, with all that they mean. Raises UserError for a network that cannot be exported,
        and a file whose answers are not the network's.
        """
        from tl_lightning.jobs.export import export

        where = Path(out).expanduser() if out else None
        return export(self._calibrated(), self._judge, self._writable(), format, where)

    def app(self, **options: Any) -> FastAPI:
        """The model as an ASGI application, for servers of your own: a page, JSON, health, figures for Prometheus.

        `options`: `token` that requests must bring; `max_mb` of a request, `max_megapixels` of an image; `unknown`, the
        distance to the training samples (None: where they are at hand); `engine`. Raises UserError for options that
        cannot be meant, and where the extra `serve` is missing.
        """
        from tl_lightning.serving.server import ServeOptions, served

        return served(self._calibrated(), self._neighbours, ServeOptions(**options))

    def serve(self, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
        """The application on a port, until it is interrupted; `options` as for `app`.

        On any other `host` than this machine itself requests must bring the token that is printed. Raises UserError
        where the port cannot be had.
        """
        from tl_lightning.serving.server import run, token_for

        token = token_for(host, options.pop("token", ""))
        run(lambda: self.app(token=token, host=host, **options), host, port, token)

    def report(self, out: str | Path = "") -> Path:
        """One page with all that there is to see, report.html of the run or `out`; it needs no network.

        Raises UserError if the run's samples are gone.
        """
        from tl_lightning.jobs.report import report

        where = Path(out).expanduser() if out else None
        return report(self.model, self._judge(), self._writable(), where, self._allow).path

    def card(self, out: str | Path = "") -> Path:
        """The model card, MODEL_CARD.md of the run or `out`: data, scores with intervals, limits, terms, versions.

        Raises UserError if the run's samples are gone.
        """
        from tl_lightning.jobs.card import card

        return card(self.model, self._judge(), self._writable(), Path(out).expanduser() if out else None)

    def push_to_hub(
        self, repo: str, *, private: bool = True, token: str | None = None, endpoint: str | None = None
    ) -> str:
        """Put the model and its card into a repository of a hub, "NAME/MODEL"; gives its address.

        What goes along is said, and holds neither samples nor paths. `token`: the one that you are logged in with if
        None. Raises UserError for what the hub refuses, and if the run's samples are gone.
        """
        from tl_lightning.jobs.hub_upload import push

        return push(self._calibrated(), self._judge(), self._writable(), repo, private, token, endpoint)

    def add_class(self, data: str | Path, out: str | Path = "") -> Extended:
        """A run like this one that knows the classes in another folder or table, too; it needs no old samples.

        The exact head is solved anew on the features that the run has kept (after `unknown=True` once, or made now if
        its samples are there) and on those of the new samples, of which every fifth is held back. `out`: the run's
        folder with "-extended" if it is not said. Raises UserError for tasks that are not one class for each sample,
        heads that are not linear, and an `out` that holds a run.
        """
        from tl_lightning.jobs.add_class import add_class

        folder, index = self._writable(), self._index()
        where = Path(out).expanduser() if out else self.path.with_name(f"{self.path.resolve().name}-extended")
        return add_class(self.model, folder, index, Path(data).expanduser(), where, self._allow)

    def report_with(self, other: Run, out: str | Path = "") -> Path:
        """One page of this run and another side by side, in this one's folder or `out`.

        Raises UserError where they are of other outputs, or of other validation samples.
        """
        from tl_lightning.jobs.report import report_of_two

        where = Path(out).expanduser() if out else None
        return report_of_two(self._judge(), other._judge(), (self._writable(), other._writable()), where)

    def compare(self, other: Run, split: str = "val") -> Comparison:
        """Whether another run is better on the same samples. Raises UserError where samples or classes differ."""
        from tl_lightning.jobs.evaluate import versus

        return versus(self._judge(), other._judge(), split)

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
