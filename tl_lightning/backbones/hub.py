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


def fetch(repo: str, files: tuple[str, ...], instead: str) -> str:
    """Path of the first of these files that there is, from the cache or downloaded; UserError if it cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    if path := kept(repo, files):
        return path
    reach(repo, instead)
    for file in files:
        try:
            return str(hf_hub_download(repo, file))
        except EntryNotFoundError:
            continue
        except Exception as error:  # the client raises many kinds
            raise UserError(f"{repo} cannot be downloaded ({error}). {instead}") from error
    raise UserError(f"{repo} on the hub has none of {', '.join(files)}. {instead}")


def reach(repo: str, instead: str) -> None:
    """UserError unless the hub can be reached, which is tried for 3 seconds: its own client tries for a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        why = "HF_HUB_OFFLINE is set"
    else:
        try:
            socket.create_connection((_HOST, 443), _SECONDS).close()
            return
        except OSError as error:
            why = f"{_HOST} cannot be reached: {error}"
    raise UserError(f"{repo} is not on this machine, and {why}. {instead}")
