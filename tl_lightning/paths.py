"""Where files that outlive a run are kept."""

import os
import sys
from pathlib import Path

from tl_lightning.errors import UserError


def cache_dir() -> Path:
    """The folder for what can be computed again: `TL_CACHE`, else tl_lightning in the user's cache folder."""
    if chosen := os.environ.get("TL_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "tl_lightning"


def cache_bytes() -> float:
    """How much may be kept there of features and decoded images: `TL_CACHE_GB`, else 20 GB.

    Raises UserError for a value that is no number.
    """
    text = os.environ.get("TL_CACHE_GB", "20")
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not gigabytes >= 0:
        raise UserError(f"TL_CACHE_GB={text} must be a number of gigabytes")
    return gigabytes * 1e9


def without_folders(value: str) -> str:
    """The name alone of a path on this machine; a name on a hub, or anything else, as it is."""
    if "/" not in value and os.sep not in value:
        return value
    try:
        path = Path(value).expanduser()
        known = path.is_absolute() or value.startswith(("./", "../")) or path.exists()
    except (OSError, ValueError, RuntimeError):  # no name that a file could have
        return value
    return path.name if known else value
