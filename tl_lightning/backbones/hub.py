"""Files of the Hugging Face hub: from its cache, or downloaded where there is a network, or refused at once."""

from __future__ import annotations

import importlib.util
import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

from tl_lightning.errors import UserError

_SECONDS = 3.0


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


def fetch(repo: str, files: tuple[str, ...], instead: str) -> str:
    """Path of the first of these files that there is, from the cache or downloaded; UserError if it cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if path := kept(repo, files):
        return path
    reach(repo, instead)
    for file in files:
        try:
            return str(hf_hub_download(repo, file))
        except Exception as error:  # the client raises many kinds
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                continue
            raise UserError(f"{repo} cannot be downloaded ({error}). {instead}") from error
    raise UserError(f"{repo} on the hub has none of {', '.join(files)}. {instead}")


def reach(repo: str, instead: str) -> None:
    """UserError unless the hub can be reached, which is tried for 3 seconds: its own client tries for a minute.

    Where `HF_ENDPOINT` names another hub, that one is tried; behind a proxy none is, only the client knows the way.
    """
    from huggingface_hub import constants

    hub = urlsplit(constants.ENDPOINT)
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        why = "HF_HUB_OFFLINE is set"
    elif hub.scheme in getproxies():
        return
    else:
        try:
            port = hub.port or (80 if hub.scheme == "http" else 443)
            socket.create_connection((hub.hostname or "", port), _SECONDS).close()
            return
        except OSError as error:
            why = f"{hub.hostname} cannot be reached: {error}"
    raise UserError(f"{repo} is not on this machine, and {why}. {instead}")
