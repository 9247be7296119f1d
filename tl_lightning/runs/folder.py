"""The files of a run's folder: how each is written, and how it is read back."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from tl_lightning.errors import UserError
from tl_lightning.evaluation.calibration import Calibration
from tl_lightning.files import atomically
from tl_lightning.runs.file_names import RunFiles
from tl_lightning.runs.plain_yaml import interpolations, load_yaml, replaced, without_paths

FORMAT = 1  # of config.yaml and model.json
_RUN_DIR = "${run_dir}"  # what paths inside of the run begin with in config.yaml, so that the run can be moved


class RunFolder(RunFiles):
    """One run's folder."""

    @contextmanager
    def claimed(self, resuming: bool = False) -> Iterator[None]:
        """While inside, no other process trains into this folder.

        Raises UserError if one does, or if the folder holds a run and is not `resuming` it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as held:
            raise UserError(
                f"another process is training into {self.path}: wait for it, or name another folder"
            ) from held
        try:
            if not resuming:
                self.refuse_run()
            yield
        finally:
            lock.release()
            (self.path / ".lock").unlink(missing_ok=True)

    def refuse_run(self) -> None:
        """Raise UserError if the folder holds a run, which a second one would mix with."""
        if held := [file for file in (self.config_file, *self.checkpoints) if file.exists()]:
            raise UserError(
                f"{self.path} already holds a run ({held[0].name}): name another folder, remove this one, or go on "
                f"with it by resume={self.path}"
            )

    def remove_begun(self) -> None:
        """Remove what a training has begun to write here, and nothing else."""
        for path in (self.config_file, self.splits_file, self.history_file, self.advice_file, self.advice_picture):
            path.unlink(missing_ok=True)
        for path in (self.best_checkpoint.parent, self.tensorboard, self.library):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)

    def refuse_links_out(self) -> None:
        """Raise UserError if a link in the folder leads out of it, where nothing of a run may be written."""
        home = self.path.resolve()
        for parent, folders, files in os.walk(self.path):
            if Path(parent) == self.trackers:  # wandb's: links to its own logs, which nothing of ours writes to
                folders.clear()
                continue
            for path in (Path(parent, name) for name in (*folders, *files)):
                if path.is_symlink() and not path.resolve().is_relative_to(home):
                    raise UserError(f"{path} is a link that leads out of the run's folder: remove it")

    def write_config(self, values: Mapping[str, Any]) -> None:
        """config.yaml, the paths inside of the run relative to wherever it lies."""
        self.path.mkdir(parents=True, exist_ok=True)
        kept = {"format": FORMAT, **replaced(values, str(values["run_dir"]), _RUN_DIR)}
        text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
        atomically(self.config_file, lambda draft: draft.write_text(text, encoding="utf-8"))

    def config(self, here: str | None = None) -> dict[str, Any]:
        """The values of config.yaml, for the run where it lies now, or `here`.

        Raises UserError if it is missing, of another format, refers to anything but the run's folder, or would admit
        packages.
        """
        values = self._read(self.config_file, load_yaml, yaml.YAMLError)
        found: dict[str, Any] = replaced(values, _RUN_DIR, here or str(self.path))
        if "allow" in found:
            raise UserError(f"{self.config_file}: allow: a file admits no packages; say allow=[...] yourself")
        if left := next(interpolations({**found, "data": without_paths(found.get("data"))}), None):
            raise UserError(f"{self.config_file}: {left} is not resolved: a run's values are plain")
        return {**found, "run_dir": str(self.path)}

    def facts(self) -> dict[str, Any]:
        """The contents of model.json. Raises UserError if it is missing, damaged, or of another format."""
        return self._read(self.model_file, json.loads, json.JSONDecodeError)

    def metrics(self) -> dict[str, Any]:
        """The contents of metrics.json. Raises UserError if it is missing or damaged."""
        return self._read(self.metrics_file, json.loads, json.JSONDecodeError, versioned=False)

    def overviews(self) -> dict[str, Any]:
        """The contents of overview.json; nothing if there is no such file. Raises UserError if it is damaged."""
        if not self.overview_file.is_file():
            return {}
        return self._read(self.overview_file, json.loads, json.JSONDecodeError, versioned=False)

    def calibration(self) -> Calibration:
        """The contents of calibration.json; none of it changes nothing. Raises UserError if it is damaged."""
        if not self.calibration_file.is_file():
            return Calibration()
        values = self._read(self.calibration_file, json.loads, json.JSONDecodeError)
        thresholds = values.get("thresholds", [])
        if not isinstance(thresholds, list):
            raise UserError(f"{self.calibration_file} is damaged: its thresholds are no list; remove it")
        return Calibration(values.get("temperature", 1.0), tuple(thresholds))

    def write_calibration(self, calibration: Calibration) -> None:
        """calibration.json."""
        self.write_json(self.calibration_file, {"format": FORMAT, **asdict(calibration)})

    def words(self) -> list[str]:
        """The words of the command line, with which the run was begun; none of a run from Python, or a damaged file."""
        try:
            values = load_yaml(self.words_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return []
        return [str(word) for word in values] if isinstance(values, list) else []

    def log(self) -> str:
        """What was said in training; nothing if it was not written down."""
        try:
            return self.log_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def history(self) -> list[dict[str, str]]:
        """The rows of metrics.csv; none if there is no such file."""
        if not self.history_file.is_file():
            return []
        with self.history_file.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def write_json(self, path: Path, values: Mapping[str, Any]) -> None:
        """Readable JSON, never half written; a number that is not finite, which JSON does not have, as null."""
        text = json.dumps(_finite(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))

    def write_text(self, path: Path, text: str) -> None:
        """A text, never half written."""
        atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))

    def write_facts(self, values: Mapping[str, Any]) -> None:
        """model.json."""
        self.write_json(self.model_file, {"format": FORMAT, **values})

    def _read(
        self, path: Path, parse: Callable[[str], Any], error: type[Exception], versioned: bool = True
    ) -> dict[str, Any]:
        try:
            values = parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError as missing:
            raise UserError(f"{self.path} holds no finished run: {path.name} is missing") from missing
        except (error, UnicodeDecodeError, RecursionError, IsADirectoryError) as damage:
            raise UserError(f"{path} is damaged: {' '.join(str(damage).split())}") from damage
        if not isinstance(values, dict):
            raise UserError(f"{path} is damaged: it holds no mapping")
        if versioned and values.pop("format", None) != FORMAT:
            raise UserError(
                f"{path} is not of format {FORMAT}, which this release of tl_lightning reads: use the release that "
                "wrote it, or train again"
            )
        return values


def _finite(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: _finite(v) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [_finite(v) for v in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
