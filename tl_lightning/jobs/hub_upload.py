"""A finished run's model on a hub, where others find it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from tl_lightning.errors import UserError
from tl_lightning.jobs.card import card, hub
from tl_lightning.jobs.judge import Judge
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
        for file in (folder.weights_file, folder.model_file, folder.calibration_file, folder.metrics_file):
            if file.is_file():
                shutil.copyfile(file, staged / file.name)
        if folder.library.is_dir():
            for file in sorted(p for p in folder.library.rglob("*") if p.is_file()):
                place = staged / folder.library.name / file.relative_to(folder.library)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
        names = sorted(str(p.relative_to(staged)) for p in staged.rglob("*") if p.is_file())
        log.info(f"push      {', '.join(names)} to {repo}, {'private' if private else 'for everybody to see'}")
        try:
            address = api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=staged, commit_message="A model of tl_lightning")
        except (library.errors.HfHubHTTPError, ValueError, OSError) as error:
            raise UserError(f"{repo} cannot be pushed: {' '.join(str(error).split())}") from error
    return str(address)
