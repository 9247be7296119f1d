"""Which file the cell of a table means."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from pathlib import Path

from tl_lightning.data.images.decode import EXTENSIONS


class Located:
    """Finds the path that a cell means: as it stands, with slashes for backslashes, or with the ending it lacks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stems: dict[str, dict[str, str]] = {}

    def __call__(self, cell: str) -> str:
        """A path relative to the folder, or absolute; the cell's own where nothing is there."""
        path = posixpath.normpath(cell.strip())
        if self._exists(path):
            return path
        path = path.replace("\\", "/")
        head, stem = posixpath.split(path)
        if os.path.splitext(stem)[1].lower() in EXTENSIONS or self._exists(path):
            return path
        return posixpath.join(head, self._in(head).get(stem, stem))

    def _exists(self, path: str) -> bool:
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
