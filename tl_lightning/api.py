"""From Python what the command line does: the same words, the same errors, an object for any part of it."""

from __future__ import annotations

import copy
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_lightning import machine
from tl_lightning.cli.console import Printable, StdoutHandler
from tl_lightning.errors import UserError
from tl_lightning.options import options
from tl_lightning.run import Run

if TYPE_CHECKING:
    from tl_lightning.config.settings import Settings
    from tl_lightning.jobs.doctor import Diagnosis
    from tl_lightning.strategies.advisor import Advice

_LISTED = ("callbacks", "logger")  # groups of several: an object is one more of them
_turn = threading.RLock()  # torch's random state is one for the whole process: trainings in threads take turns


def train(data: Any, *, run_dir: str | Path | None = None, **words: Any) -> Run:
    """Fine-tune a network on `data`; gives the finished run.

    `data`: a folder of images, a file of texts, the name of an option (`digits`), a DataFrame (a column of paths or
    texts, and one of labels), a torch Dataset of (image, label), a LabelledData, or what makes one of (input, task).
    `words`: those of the command line, nested or with dots: `backbone="resnet50"`, `trainer={"max_epochs": 5}`,
    `**{"data.batch_size": 8}`. A group may also be an object: a Backbone, a Strategy, what makes a head of (width,
    first outputs), a Callback, a Logger. `run_dir`: outputs/DATE/TIME if None. Raises UserError for bad input.
    """
    with _speaking():
        from tl_lightning.jobs.train import train as job

        settings, kept = _settings(data, _folder(run_dir), words)
        given = {name: getattr(settings, name) for name in ("backbone", "head")}
        own = {name: copy.deepcopy(v) for name, v in given.items() if not isinstance(v, Mapping)}  # before it learns
        job(settings)
    allow = (*settings.allow, *_packages(words.get("strategy"), words.get("task")))
    return Run(settings.run_dir, allow=allow, data=kept.made, **own)


def advise(data: Any, **words: Any) -> Advice:
    """The strategy for a data set and a backbone, and why, from one pass over the images; nothing is trained.

    `data` and `words` as for `train`. Raises UserError for bad input.
    """
    with _speaking():
        from tl_lightning.jobs.advise import advise as job

        said = {"strategy": "auto", "data.batch_size": 1, **words}  # a folder may be smaller than a training batch
        return job(_settings(data, Path("."), said)[0])[0]


def doctor(data: Any, **words: Any) -> Diagnosis:
    """What is wrong with a data set, from one look at every sample and what a pretrained network makes of them.

    `data` and `words` as for `train`; `str()` of it is Markdown, `.write(folder)` a page with pictures,
    `.write_clean(file)` a table without what was found. Raises UserError for data that cannot be read at all.
    """
    with _speaking():
        from tl_lightning.jobs.doctor import doctor as job

        said = {"strategy": "linear_probe", "data.batch_size": 1, **words, "doctor": "full"}
        return job(_settings(data, Path("."), said)[0])


def _packages(*objects: Any) -> list[str]:
    """The packages of objects that Python has handed over: these it has admitted."""
    kinds = [
        o if hasattr(o, "__qualname__") else type(o) for o in objects if not isinstance(o, (str, Mapping, type(None)))
    ]
    return [kind.__module__.partition(".")[0] for kind in kinds]


class _Kept:
    """What makes data, keeping what it has made: a run evaluates itself on it."""

    def __init__(self, make: Callable[..., Any] | None = None, made: Any = None) -> None:
        self.make, self.made = make, made

    def __call__(self, *facts: Any) -> Any:
        assert self.make is not None
        self.made = self.make(*facts)
        return self.made


def _settings(data: Any, folder: Path, words: Mapping[str, Any]) -> tuple[Settings, _Kept]:
    """What the job is told, and where data that are no file will be found."""
    from tl_lightning.config.compose import check_choices, composed, merged
    from tl_lightning.config.explain import CAUGHT, explain
    from tl_lightning.config.settings import settings_of
    from tl_lightning.config.words import arguments

    plain, objects = _apart(words)
    source, make = _source(data)
    said = arguments([*merged({**source, **plain})])
    try:
        check_choices(said)
        values = composed(said, str(folder.absolute()))
    except CAUGHT as error:
        raise UserError(explain(error)) from error
    for name, value in objects.items():
        values[name] = {**(values[name] or {}), **value} if name in _LISTED else value
    settings = settings_of(values)
    if make is None:
        return settings, _Kept()
    kept = make(settings)
    return replace(settings, data=kept if kept.make else kept.made), kept


def _apart(words: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Words for the command line, and objects by the group that they stand for."""
    plain: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    for name, value in words.items():
        parts = value if name in _LISTED and isinstance(value, (list, tuple)) else [value]
        if value is None or all(isinstance(p, (str, bool, int, float, Mapping, Path)) for p in parts):
            plain[name] = value
        elif name == "allow":
            plain[name] = list(value)
        elif name in _LISTED:
            objects[name] = {f"own{i}": part for i, part in enumerate(parts)}
        elif isinstance(value, (list, tuple)):
            plain[name] = value
        else:
            objects[name] = value
    return plain, objects


def _source(data: Any) -> tuple[dict[str, Any], Callable[[Settings], _Kept] | None]:
    """The words that stand for data, and for data in memory what makes them of the settings."""
    from tl_lightning.data import table

    if isinstance(data, Mapping):
        return {"data": data}, None
    if isinstance(data, (str, Path)):
        return _named(data), None
    if table.is_frame(data):
        from tl_lightning.data.images.manifest import names_images

        if names_images(data):
            return {"data": "manifest", "data.file": "DataFrame"}, partial(_in_memory, "manifest", {"file": data})
        return {"data": "text_csv", "data.file": "DataFrame"}, partial(_in_memory, "text_table", {"file": data})
    if hasattr(data, "train_dataloader"):
        return {}, lambda settings: _Kept(made=data)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return {"data": "image_folder", "data.root": "."}, partial(_in_memory, "image_dataset", {"dataset": data})
    if callable(data):
        return {}, lambda settings: _Kept(data)
    raise UserError(
        f"{type(data).__name__} is no data: give a folder, a file, a DataFrame, a torch Dataset of (image, label), or "
        "a LabelledData"
    )


def _named(data: str | Path) -> dict[str, Any]:
    """A folder, a file, or an option of `data=`."""
    path = Path(data).expanduser()
    if not path.exists() and str(data) in options("data"):
        return {"data": str(data)}
    if path.is_file():
        return {"data.file": str(data)}  # its columns say the option
    return {"data": "image_folder", "data.root": str(data)}


def _in_memory(maker: str, given: dict[str, Any], settings: Settings) -> _Kept:
    """Data in memory under the options that a folder or a file of their kind would have."""
    from tl_lightning import data as room
    from tl_lightning import targets

    spec = {k: v for k, v in settings.data.items() if k not in ("_target_", "_partial_", *given)}
    if maker == "image_dataset":
        spec.pop("root")
    return _Kept(partial(getattr(room, maker), **targets.build(spec, settings.allow), **given))


def _folder(run_dir: str | Path | None) -> Path:
    """The run's folder; without a name it is one that nobody else has, as two runs may begin in one second."""
    if run_dir is not None:
        return Path(run_dir).expanduser()
    stem = f"outputs/{datetime.now():%Y-%m-%d/%H-%M-%S}"
    for number in count():
        folder = Path(f"{stem}-{number}" if number else stem)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError  # count() does not end


@contextmanager
def _speaking() -> Iterator[None]:
    """While inside, it is this thread's turn, and what a run says is printed, unless logging has been set up."""
    logger = logging.getLogger("tl_lightning")
    machine.set_threads()  # of which torch asks when it is imported
    with _turn, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm, whose bars nobody sees
        if not logger.hasHandlers():
            handler = StdoutHandler()
            handler.setFormatter(Printable())
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        yield
