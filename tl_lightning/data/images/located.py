"""Which file the cell of a table means."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from pathlib import Path, PurePosixPath

from tl_lightning.data.images.decode import EXTENSIONS


class Located:
    """Finds the path that a cell means: as it stands, with slashes for backslashes, or with the ending it lacks."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.absolute = folder, folder.absolute().as_posix()
        self._stems: dict[str, dict[str, str]] = {}

    def __call__(self, cell: str) -> str:
        """A path relative to the folder, absolute if it is not below it; the cell's own where nothing is there."""
        found = self._found(cell)
        below = posixpath.isabs(found) and PurePosixPath(found).is_relative_to(self.absolute)
        return PurePosixPath(found).relative_to(self.absolute).as_posix() if below else found

    def _found(self, cell: str) -> str:
        path = posixpath.normpath(cell.strip())
        if self.exists(path):
            return path
        path = posixpath.normpath(path.replace("\\", "/"))
        head, stem = posixpath.split(path)
        if os.path.splitext(stem)[1].lower() in EXTENSIONS or self.exists(path):
            return path
        return posixpath.join(head, self._in(head).get(stem, stem))

    def exists(self, path: str) -> bool:
        """Whether something lies there."""
        return os.path.exists(os.path.join(self.folder, path))

    def _in(self, head: str) -> dict[str, str]:
        """The names of the images in a folder by what stands before their ending; those that are not clear left out."""
        if head not in self._stems:
            found: dict[str, list[str]] = defaultdict(list)
            try:
                names = os.listdir(os.path.join(self.folder, head))
            except OSError:
                names = []
            for name in names:
                stem, ending = os.path.splitext(name)
                if ending.lower() in EXTENSIONS:
                    found[stem].append(name)
            self._stems[head] = {stem: both[0] for stem, both in found.items() if len(both) == 1}
        return self._stems[head]
