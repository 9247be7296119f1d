"""Files that are whole or absent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, bring it to the disk, then put it there; left by an exception nothing remains.

    It is readable by whoever may read new files of this user. Raises OSError, which names the file, where the disk
    takes no more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        draft.touch()
        mode = draft.stat().st_mode
        write(draft)
        draft.chmod(mode)  # safetensors would keep it from all other users
        with draft.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name with nothing in it
        os.replace(draft, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        draft.unlink(missing_ok=True)
