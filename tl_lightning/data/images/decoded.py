"""Images decoded and resized once: from the second epoch on, neither happens again."""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from tl_lightning.machine import RAM_SHARE, free_memory
from tl_lightning.store import NoRoom, Store, human

log = logging.getLogger(__name__)

KINDS = ("auto", "ram", "disk", "off")
_SHAPE = struct.Struct("<HHI")  # height and width, 0 of an empty slot, and a checksum of the pixels


class Decoded:
    """Slots for one uint8 image (H, W, 3) each, filled as the images are first asked for, by whichever process.

    In memory that forked processes share, or in a file of the cache folder, which later runs find filled. `shapes`
    (N, 2) are the expected heights and widths: a draft's may differ by a few pixels, for which there is room.
    """

    def __init__(self, shapes: np.ndarray, folder: Path | None) -> None:
        self.folder, self.count = folder, len(shapes)
        self.starts = np.concatenate([[0], np.cumsum(_room(shapes))])
        self._memory = None if folder else mmap.mmap(-1, self.size + _SHAPE.size * self.count)
        self._files: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Of all slots."""
        return int(self.starts[-1])

    def get(self, index: int) -> np.ndarray | None:
        """The image (H, W, 3) in a slot, None if it is empty or, after a warning, if the disk gives back another."""
        try:
            height, width, checksum = _SHAPE.unpack(self._read("filled", _SHAPE.size * index, _SHAPE.size))
            if not height:
                return None
            pixels = self._read("pixels", int(self.starts[index]), height * width * 3)
        except FileNotFoundError:  # removed to make room
            return None
        if self._memory is None and (len(pixels) != height * width * 3 or zlib.crc32(pixels) != checksum):
            log.warning(f"{self.folder} is damaged: image {index} is decoded again")
            return None
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)

    def put(self, index: int, pixels: np.ndarray) -> None:
        """Fill a slot. An image (H, W, 3) that does not fit, or for which the disk has no room, is left out."""
        begin, data = int(self.starts[index]), pixels.tobytes()
        if len(data) > self.starts[index + 1] - begin or max(pixels.shape) > 65535:
            return
        shape = _SHAPE.pack(*pixels.shape[:2], zlib.crc32(data))  # written last: who sees it may read
        if self._memory is not None:
            self._memory[begin : begin + len(data)] = data
            at = self.size + _SHAPE.size * index
            self._memory[at : at + _SHAPE.size] = shape
            return
        try:
            slots, filled = self._open()
            if os.pwrite(slots, data, begin) == len(data):
                os.pwrite(filled, shape, _SHAPE.size * index)
        except OSError:  # the disk is full, or the files were removed: decoding again is slower, that is all
            pass

    def _read(self, file: str, begin: int, length: int) -> bytes:
        if self._memory is not None:
            begin += self.size if file == "filled" else 0
            return self._memory[begin : begin + length]
        return os.pread(self._open()[file == "filled"], length, begin)

    def _open(self) -> tuple[int, int]:
        if self._files is None:
            assert self.folder is not None
            self._files = (os.open(self.folder / "pixels", os.O_RDWR), os.open(self.folder / "filled", os.O_RDWR))
        return self._files

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_memory": None, "_files": None}

    def __del__(self) -> None:
        for file in self._files or ():
            os.close(file)


def keep(kind: str, name: str, stamps: Sequence[Any], shapes: np.ndarray, ranks: int = 1) -> tuple[Decoded | None, str]:
    """Slots for images of these shapes (N, 2), or None; and the reason, in words.

    `kind`: "ram", "disk", "off", or "auto": memory if all fit into a quarter of what is free, else disk, else off.
    `name` of the transform and `stamps` of the files tell one file of slots from another. `ranks` share the memory.
    """
    size, free = int(_room(shapes).sum()), free_memory()
    if kind == "off":
        return None, "are not kept: data.cache=off"
    # a process that is not forked does not inherit the memory
    forks = torch.multiprocessing.get_start_method() == "fork"
    if forks and (kind == "ram" or (kind == "auto" and size * ranks <= RAM_SHARE * free)):
        return Decoded(shapes, None), f"are kept in memory: {human(size)} of {human(free)} that are free"
    if not hasattr(os, "pread"):
        return None, "are not kept: on this system processes cannot share a file"
    try:
        return Decoded(shapes, _slots(name, stamps, size, len(shapes))), f"are kept on disk: {human(size)}"
    except NoRoom as why:
        return None, f"are not kept: {why}"


def _slots(name: str, stamps: Sequence[Any], size: int, count: int) -> Path:
    store = Store("images")
    facts = {"transform": name, "images": count, "pillow": PIL.__version__, "layout": 3}
    key = hashlib.sha256(json.dumps([facts, list(stamps)]).encode()).hexdigest()[:32]
    with store.lock(key):
        entry = store.get(key)
        whole = {(f.name, f.stat().st_size) for f in entry.folder.iterdir()} if entry else set()
        if not whole >= set(_files(size, count)):
            store.make_room(size)
            with store.writing(key, facts) as draft:
                for file, length in _files(size, count):
                    with (draft / file).open("wb") as empty:
                        empty.truncate(length)
    return store.root / key


def _files(size: int, count: int) -> list[tuple[str, int]]:
    return [("pixels", size), ("filled", _SHAPE.size * count)]


def _room(shapes: np.ndarray) -> np.ndarray:
    """Bytes for images of about these shapes: a draft of 1/8 rounds its sides, by at most one in eight pixels."""
    height, width = shapes.T.astype(np.int64)
    room: np.ndarray = 3 * (height * width + np.maximum(height, width) * (2 + np.minimum(height, width) // 20))
    return room
