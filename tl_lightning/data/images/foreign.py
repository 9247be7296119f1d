"""What is found among images and is none that can be read: named, with its remedy."""

from __future__ import annotations

import stat
from pathlib import Path

from tl_lightning.data.images.decode import EXTENSIONS

_RAW = frozenset(f".{ending}" for ending in "nef cr2 cr3 arw dng raf orf rw2 pef srw 3fr iiq".split())
_HEIC = frozenset((".heic", ".heif", ".hif"))
_DRAWN = frozenset((".svg", ".eps", ".psd", ".ai", ".xcf"))
_CONVERT = "convert it to JPEG or PNG"
# (at byte, signature): what it is, and what to do
_SIGNS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "is a pointer of Git LFS, not the image: run git lfs pull"),
    (0, b"%PDF", f"is a PDF: {_CONVERT}"),
    (0, b"%!PS", f"is PostScript, which is not run here: {_CONVERT}"),
    (0, b"8BPS", f"is a Photoshop file: {_CONVERT}"),
    (0, b"PK\x03\x04", "is a ZIP archive: unpack it"),
    (0, b"\x1f\x8b", "is a gzip archive: unpack it"),
    (0, b"\x1aE\xdf\xa3", "is a video: take frames out of it"),
    (8, b"AVI ", "is a video: take frames out of it"),
)
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"),
                    "is HEIC, which Pillow cannot read: convert it to JPEG (iPhone: Camera, Most Compatible)"),
    **dict.fromkeys((b"isom", b"mp41", b"mp42", b"qt  ", b"M4V ", b"avc1", b"3gp4", b"3gp5"),
                    "is a video: take frames out of it"),
    b"crx ": f"is a camera's RAW: {_CONVERT}",
}  # fmt: skip
_KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"),
          (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))  # fmt: skip
HEAD = 64  # bytes that signatures lie in
_IMAGES = ((0, b"\xff\xd8\xff"), (0, b"\x89PNG"), (0, b"GIF8"), (0, b"BM"), (0, b"II*\0"), (0, b"MM\0*"), (8, b"WEBP"),
           (4, b"ftyp"), (0, b"\0\0\0\x0cjP  "))  # fmt: skip


def named_like_an_image(path: Path) -> bool:
    """Whether a name promises an image, be it one that cannot be read here."""
    return path.suffix.lower() in EXTENSIONS | _RAW | _HEIC | _DRAWN


def begins_like_an_image(path: Path) -> bool:
    """Whether the first bytes of a regular file, whatever its name, are those of an image."""
    try:
        head = _head(path) if path.is_file() else b""
    except OSError:
        return False
    return any(head[at : at + len(sign)] == sign for at, sign in _IMAGES)


def what_else(path: Path) -> str:
    """What a file is that is no image to be read, and the remedy; empty if nothing speaks against it.

    Raises OSError for what is not there.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        return f"is no regular file but {next((what for is_kind, what in _KINDS if is_kind(mode)), 'something else')}"
    if path.stat().st_size == 0:
        return "is empty: 0 bytes"
    ending = path.suffix.lower()
    if what := what_begins(_head(path)):
        return what
    if ending in _RAW:
        return f"is a camera's RAW: {_CONVERT}"
    if ending in _HEIC:
        return f"is HEIC by its name: {_CONVERT}"
    if ending in _DRAWN:
        return f"is a {ending} drawing: {_CONVERT}"
    return ""


def what_begins(head: bytes) -> str:
    """What that is, and the remedy, of which these are the first 64 bytes; empty if they may be an image's."""
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        return _BRANDS[head[8:12]]
    for at, sign, what in _SIGNS:
        if head[at : at + len(sign)] == sign:
            return what
    if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:14].lower().startswith((b"<!doctype html", b"<html", b"<?xml", b"<svg")):
        return "is a web page or XML, not an image: download it again"
    return ""


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)
