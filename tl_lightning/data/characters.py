"""The characters of a file of text, whatever encoding it was saved in."""

from __future__ import annotations

import logging
from pathlib import Path

from charset_normalizer import from_bytes

from tl_lightning.errors import UserError

log = logging.getLogger(__name__)

_ENCODED = 0.25  # of the letters, at most, that are no ASCII where an alphabet is Latin


def text_of(path: Path, encoding: str | None) -> str:
    """A file's characters, NULs left out. Lines end in a newline alone.

    `str.splitlines` would cut at other marks, too, which may stand in a text. Raises UserError for bytes that make no
    words in the encoding that is named, or in those that are tried.
    """
    raw = path.read_bytes()
    if encoding is not None:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as error:
            raise UserError(f"data.encoding={encoding}: {path} is written otherwise (byte {error.start})") from error
    elif raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = raw.decode("utf-16", errors="replace")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            text = _latin(path, raw, error.start)
    if nuls := text.count("\0"):
        log.warning(f"{path} holds {nuls} NUL characters, which are left out")
        text = text.replace("\0", "")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _latin(path: Path, raw: bytes, at: int) -> str:
    """Windows-1252, which is what is not UTF-8 in most of the world. Raises UserError where that makes no words."""
    sample = raw[:1_000_000]
    letters = sum(bytes([byte]).isalpha() for byte in sample)
    beyond = sum(byte > 127 for byte in sample)
    if beyond > _ENCODED * (letters + beyond):
        guesses = list(dict.fromkeys(match.encoding for match in from_bytes(sample[:50_000])))[:4] or ["gbk"]
        raise UserError(
            f"{path} is not UTF-8 (byte {at}), and as Windows-1252 it makes no words: it may be "
            f"{' or '.join(guesses)}; say data.encoding={guesses[0]} (or what you know of it), or save it as UTF-8"
        )
    log.warning(f"{path} is not UTF-8 (byte {at}): it is read as Windows-1252; data.encoding says otherwise")
    return raw.decode("cp1252", errors="replace")
