"""Where files that outlive a run are kept."""

import os
import sys
from pathlib import Path


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
