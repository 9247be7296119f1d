"""What is wrong with a data set, before anything is trained on it."""

from __future__ import annotations

import csv
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from tl_lightning.backbones.backbone import Backbone
from tl_lightning.build import device_of, feature_options, gather
from tl_lightning.config.settings import Settings
from tl_lightning.data.datamodule import LabelledData
from tl_lightning.data.issues import Flagged, Issue, dropped, group_issues
from tl_lightning.data.samples import Item
from tl_lightning.data.splits import SPLITS
from tl_lightning.errors import UserError
from tl_lightning.evaluation.domains import domains
from tl_lightning.evaluation.label_errors import FOLDS, out_of_fold
from tl_lightning.features.frozen import kept_rows
from tl_lightning.features.views import View
from tl_lightning.files import atomically
from tl_lightning.jobs.fit import quiet
from tl_lightning.printable import guarded
from tl_lightning.reports.doctor_page import page, text
from tl_lightning.reports.html import table
from tl_lightning.runs.folder import RunFolder
from tl_lightning.store import NoRoom

log = logging.getLogger(__name__)

_GIVE_AWAY = 24  # samples by which a split is known


@dataclass(frozen=True)
class Diagnosis:
    """What was found: `issues`, and the lines that were said while the data were `read`."""

    data: LabelledData
    issues: Sequence[Issue]
    read: Sequence[str]
    seconds: float

    def __str__(self) -> str:
        return text(self.title, self.issues, self.read)

    @property
    def title(self) -> str:
        """What was looked at."""
        counts = Counter(i.split for i in self.data.samples.items if not i.skipped)
        sizes = ", ".join(f"{counts[split]} {split}" for split in SPLITS if counts[split])
        return f"{self.data.samples.root}: {sizes} {self.data.samples.noun}, {len(self.data.task.outputs)} classes"

    def _repr_html_(self) -> str:
        """A line for each finding, as a notebook shows it."""
        rows = [(i.kind, i.said, i.remedy, ", ".join(f.path for f in i.samples[:3])) for i in self.issues]
        return table(("finding", "what", "what to do", "the first"), rows, self.title)

    def write(self, folder: Path) -> Path:
        """doctor.html with small pictures, doctor.md and doctor.json; gives the page."""
        folder.mkdir(parents=True, exist_ok=True)
        out = RunFolder(folder)
        out.write_text(folder / "doctor.md", f"{self}\n")
        out.write_json(folder / "doctor.json", {"title": self.title, "issues": [asdict(i) for i in self.issues]})
        items = {item.path: item for item in self.data.samples.items}
        out.write_text(
            folder / "doctor.html", page(self.title, self.issues, self.read, lambda p: self._shown(items[p]))
        )
        return folder / "doctor.html"

    def _shown(self, item: Item) -> str:
        try:
            return self.data.samples.shown(item)
        except Exception as error:  # whatever makes a file unreadable
            return f"{item.path}: {type(error).__name__}"

    def write_clean(self, file: Path) -> str:
        """A table without what was found, which trains as it is; gives what was left out, in words.

        Raises UserError for a file that is no CSV, or is there already.
        """
        if file.suffix.lower() != ".csv":
            raise UserError(f"write={file} must be called .csv")
        if file.exists():
            raise UserError(f"write={file} is there already: name another file")
        without = dropped(self.issues)
        kept = [i for i in self.data.samples.items if not i.skipped and i.path not in without]
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = self.data.samples.rows(kept, file.parent.absolute())
        atomically(file, lambda draft: _write_rows(draft, rows))
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(without.values()).items())
        words = " ".join(["data.file=" + str(file), *self.data.samples.words(kept)])
        return f"{file}: {len(kept)} {self.data.samples.noun}; left out: {kinds or 'none'}; train on it by {words}"


def doctor(settings: Settings) -> Diagnosis:
    """Look at every sample, then at what a pretrained network makes of them.

    Raises UserError for data that cannot be read at all.
    """
    quiet()
    began = time.perf_counter()
    said = _Said()
    root = logging.getLogger("tl_lightning.data")
    root.addHandler(said)
    try:
        backbone, data, _ = gather(settings)
    finally:
        root.removeHandler(said)
    issues = list(data.issues())
    issues += group_issues(data.samples)
    issues += _by_features(backbone, data, settings)
    return Diagnosis(data, issues, said.lines, time.perf_counter() - began)


class _Said(logging.Handler):
    """Keeps what is said while data are read."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _by_features(backbone: Backbone, data: LabelledData, settings: Settings) -> Iterator[Issue]:
    """Labels that are probably wrong, and splits that can be told apart."""
    if not backbone.pretrained:
        log.info("features  the network knows nothing: labels and splits are not looked at; name pretrained weights")
        return
    splits = [split for split in SPLITS if data.samples.size(split)]
    wanted = [(split, View(data.eval_transform)) for split in splits]
    boundary, options = len(backbone.stages), feature_options(settings)
    try:
        parts = kept_rows(backbone, boundary, wanted, data, options, device_of(settings), "what the doctor looks at")
    except NoRoom as why:
        log.warning(f"features  labels and splits are not looked at: {why}")
        return
    features = np.concatenate([np.asarray(part, np.float32) for part in parts])
    items = [item for split in splits for item in data.samples.used(split)]
    yield from _suspects(data, features, items, splits)
    yield from _drift(data, parts, splits)


def _suspects(
    data: LabelledData, features: np.ndarray, items: Sequence[Item], splits: Sequence[str]
) -> Iterator[Issue]:
    """Labels that models which have not seen them find unlikely."""
    samples, task = data.samples, data.task
    if len(items) < 2 * FOLDS:
        return
    targets = np.concatenate([samples.targets(split) for split in splits])
    units = {path: k for k, path in enumerate(dict.fromkeys(samples.copies.get(i.path, i.path) for i in items))}
    unit = np.array([units[samples.copies.get(i.path, i.path)] for i in items])
    strata = np.unique(task.strata([i.label for i in items])[0], return_inverse=True)[1]

    def fit(rows: np.ndarray, known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        solution = task.solve(rows, known)
        return lambda new: task.predictions(torch.from_numpy(new) @ solution.weight.T + solution.bias).numpy()

    try:
        found = task.suspects(out_of_fold(features, targets, fit, unit, strata), targets)
    except UserError as why:
        log.info(f"labels    are not looked at: {why}")
        return
    if found:
        flagged = [
            Flagged(items[s.place].path, f"{items[s.place].label} ({s.given:.3f}), looks like {s.suggested} "
                    f"({s.probability:.3f})") for s in found
        ]  # fmt: skip
        sure = [items[s.place].path for s in found if s.sure]
        yield Issue(
            "labels",
            f"{len(sure)} labels are probably wrong, of {len(found)} that are not what models say which have not seen "
            f"them ({1 - len(found) / len(items):.0%} are)",
            "look at the first of them, and mend those that are wrong: the others are merely difficult",
            flagged,
            drop=sure,
        )


def _drift(data: LabelledData, parts: Sequence[np.ndarray], splits: Sequence[str]) -> Iterator[Issue]:
    """Splits that a classifier tells from train."""
    train = np.asarray(parts[splits.index("train")], np.float32)
    for split, part in zip(splits, parts, strict=True):
        if split == "train" or min(len(part), len(train)) < FOLDS:
            continue
        of_split = np.arange(len(train) + len(part)) >= len(train)
        found = domains(np.concatenate([train, np.asarray(part, np.float32)]), of_split)
        if found.differ:
            items = data.samples.used(split)
            order = np.argsort(-found.second[of_split], kind="stable")[:_GIVE_AWAY]
            yield Issue(
                "drift",
                f"{split} can be told from train: AUROC {found.auroc:.3f}, of splits alike it would be .5",
                f"find out what {split} has that train has not (another camera, another day), and train on some of it",
                [Flagged(items[k].path, f"{found.second[of_split][k]:.2f}") for k in order],
            )


def _write_rows(file: Path, rows: Sequence[Sequence[str]]) -> None:
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        csv.writer(out).writerows(map(guarded, row) for row in rows)
