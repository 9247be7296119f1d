"""Files of the Hugging Face hub: from its cache, or downloaded where there is a network, or refused at once."""

from __future__ import annotations

import importlib.util
import os
import socket

from tl_lightning.errors import UserError

_HOST, _SECONDS = "huggingface.co", 3.0


def installed(package: str, extra: str) -> None:
    """UserError with the command that installs it, unless a package is there."""
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{package} is not installed: pip install 'tl-lightning[{extra}]'")


def kept(repo: str, files: tuple[str, ...]) -> str | None:
    """Path of the first of these files that the cache holds."""
    from huggingface_hub import try_to_load_from_cache

    for file in files:
        path = try_to_load_from_cache(repo, file)
        if isinstance(path, str):
            return path
    return None


def need(repo: str, files: tuple[str, ...], instead: str) -> None:
    """UserError unless the cache holds one of the files, or the hub can be reached, which is tried for 3 seconds."""
    if kept(repo, files):
        return
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        why = "HF_HUB_OFFLINE is set"
    else:
        try:
            socket.create_connection((_HOST, 443), _SECONDS).close()
            return
        except OSError as error:
            why = f"{_HOST} cannot be reached: {error}"
    raise UserError(f"{repo} is not on this machine, and {why}. {instead}")
