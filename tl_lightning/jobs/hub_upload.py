"""A finished run's model on a hub, where others find it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl_lightning.errors import UserError
from tl_lightning.jobs.card import card, hub
from tl_lightning.jobs.judge import Judge
from tl_lightning.paths import without_folders
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import Model

log = logging.getLogger(__name__)


def push(
    model: Model, judge: Judge, folder: RunFolder, repo: str, private: bool, token: str | None, endpoint: str | None
) -> str:
    """Put what the model needs, and its card, into a repository, which is made if it is not there; gives its address.

    Neither samples nor their names nor paths of this machine go along. Raises UserError for what the hub refuses.
    """
    library = hub()
    api = library.HfApi(endpoint=endpoint, token=token)
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch)
        card(model, judge, folder, staged / "README.md")  # which settles the temperature, too
        for file in (folder.weights_file, folder.calibration_file, folder.metrics_file):
            if file.is_file():
                shutil.copyfile(file, staged / file.name)
        RunFolder(staged).write_facts(_without_places(folder.facts()))
        if folder.library.is_dir():
            for file in sorted(p for p in folder.library.rglob("*") if p.is_file()):
                place = staged / folder.library.name / file.relative_to(folder.library)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
        names = sorted(str(p.relative_to(staged)) for p in staged.rglob("*") if p.is_file())
        log.info(f"push      {', '.join(names)} to {repo}, {'private' if private else 'for everybody to see'}")
        try:
            address = api.create_repo(repo, private=private, exist_ok=True)
            if private and not api.repo_info(repo).private:
                raise UserError(f"{repo} is there already, for everybody to see: say private=False, or another name")
            api.upload_folder(repo_id=repo, folder_path=staged, commit_message="A model of tl_lightning")
        except UserError:
            raise
        except Exception as error:  # whatever the library and the network below it raise
            raise UserError(f"{repo} cannot be pushed: {' '.join(str(error).split())}") from error
    return str(address)


def _without_places(node: Any) -> Any:
    """Facts in which paths on this machine are names alone."""
    if isinstance(node, Mapping):
        return {key: _without_places(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_without_places(value) for value in node]
    return without_folders(node) if isinstance(node, str) else node
