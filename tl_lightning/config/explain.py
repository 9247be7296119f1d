"""One line for what went wrong."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from tl_lightning.config.compose import composed, owners
from tl_lightning.errors import UserError, nearest

CAUGHT = (UserError, HydraException, OmegaConfBaseException, OSError)
_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
)
# What other tools call it.
_MEANT = {
    "epochs": "trainer.max_epochs=3", "max_epochs": "trainer.max_epochs=3", "epoch": "trainer.max_epochs=3",
    "learning_rate": "optimizer.lr=1e-4", "model": "backbone=resnet50", "arch": "backbone=resnet50",
    "image_size": "backbone.image_size=224", "img_size": "backbone.image_size=224", "gpus": "trainer.devices=2",
    "device": "trainer=gpu or trainer=cpu", "out": "hydra.run.dir=FOLDER", "output": "hydra.run.dir=FOLDER",
    "data_dir": "data.root=FOLDER", "root": "data.root=FOLDER", "dataset": "data.root=FOLDER",
}  # fmt: skip
_LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm")  # of the extra `sweep`
_HINTS = {
    "LexerNoViableAlt": "; quote a value of spaces or brackets, e.g. 'key=\"a (b)\"'",
    "mismatched input": "; quote a value of spaces or brackets, e.g. 'key=\"a (b)\"'",
}


def expected(error: BaseException) -> bool:
    """Whether one line says it all: any other error of the system may be a fault of ours."""
    return isinstance(error, HydraException) or not isinstance(error, OSError) or error.errno in _DISK


def explain(error: BaseException) -> str:
    """One line for an exception of ours, of Hydra's or of OmegaConf's; a cause of ours wins."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return " ".join(str(cause).split())
        cause = cause.__cause__
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"{error.filename or 'a file'} cannot be read or written: {error.strerror}"
    if isinstance(error, MissingConfigException) and error.options:
        missing = str(error.missing_cfg_file)
        if (asked := missing.removeprefix("hydra/launcher/")) in _LAUNCHERS:
            return f"hydra/launcher={asked} is not installed: pip install 'tl-lightning[sweep]'"
        return f"there is no {missing}: {nearest(missing.rpartition('/')[2], error.options)}"
    first = str(error).strip().splitlines()[0].rstrip(".")
    if match := re.match(r"Could not override '(.+)'", first):
        return f"there is no option '{match[1]}'{_near_key(match[1])}; python train.py --cfg job lists them all"
    return first + next((hint for sign, hint in _HINTS.items() if sign in str(error)), "")


def _near_key(key: str) -> str:
    """Where an option that is not in this composition can be found, or what its name may have been meant to be."""
    group, _, name = key.partition(".")
    if name and (holders := owners(group, name)):
        return f" in what is chosen: it belongs to {group}={' or '.join(holders)}"
    if key in _MEANT:
        return f": say {_MEANT[key]}"
    keys = list(_keys(composed([])))
    same = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]]
    close = same or difflib.get_close_matches(key, keys, n=3, cutoff=0.7)
    return f": did you mean {' or '.join(close[:3])}?" if close else ""


def _keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{name}.")
