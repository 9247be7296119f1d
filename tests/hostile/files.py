"""Files among the images of a class."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile.case import Case, photos, trained


def _picture(mode: str = "RGB", size: tuple[int, int] = (30, 20), kind: str = "PNG", **options) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def _array(values: np.ndarray, kind: str = "TIFF") -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


def _png_of_size(width: int, height: int) -> bytes:
    """One bit a pixel, all zero: a small file of many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


JPEG, PNG = _picture(kind="JPEG"), _picture()
UNREADABLE: dict[str, tuple[str, bytes, str]] = {
    "empty": ("x.jpg", b"", "is empty: 0 bytes"),
    "a web page": ("x.jpg", b"<!DOCTYPE html><html>404</html>", "is a web page"),
    "XML": ("x.png", b"<?xml version='1.0'?><Error/>", "is a web page or XML"),
    "SVG": ("x.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is a web page or XML"),
    "a pointer of Git LFS": ("x.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "HEIC named JPEG": ("x.jpg", b"\0\0\0\x18ftypheic" + bytes(80), "is HEIC"),
    "HEIC": ("x.heic", b"\0\0\0\x18ftypmif1" + bytes(80), "is HEIC"),
    "RAW of Nikon": ("x.NEF", b"MM\0*" + bytes(99), "camera's RAW"),
    "RAW of Canon": ("x.CR3", b"\0\0\0\x18ftypcrx " + bytes(99), "camera's RAW"),
    "PDF named JPEG": ("x.jpg", b"%PDF-1.7\n", "is a PDF"),
    "PostScript named JPEG": ("x.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript, which is not run"),
    "an archive": ("x.png", b"PK\x03\x04" + bytes(50), "is a ZIP archive"),
    "a gzip archive": ("x.jpg", b"\x1f\x8b\x08" + bytes(50), "gzip archive"),
    "a video": ("x.jpg", b"\0\0\0\x18ftypisom" + bytes(50), "is a video"),
    "an AVI": ("x.png", b"RIFF\0\0\0\0AVI LIST", "is a video"),
    "a Matroska": ("x.webp", b"\x1aE\xdf\xa3" + bytes(40), "is a video"),
    "Photoshop": ("x.jpg", b"8BPS\0\x01" + bytes(40), "Photoshop"),
    "a cut JPEG": ("x.jpg", JPEG[: len(JPEG) // 2], r"unreadable: .*x\.jpg"),
    "a cut PNG": ("x.png", PNG[: len(PNG) // 2], r"unreadable: .*x\.png"),
    "a cut GIF": ("x.gif", _picture(kind="GIF")[:30], r"unreadable: .*x\.gif"),
    "a cut TIFF": ("x.tif", _picture(kind="TIFF")[:60], r"unreadable: .*x\.tif"),
    "a cut WebP": ("x.webp", _picture(kind="WEBP")[:40], r"unreadable: .*x\.webp"),
    "zeros": ("x.jpg", bytes(500), r"unreadable: .*x\.jpg"),
    "noise": ("x.bmp", np.random.default_rng(0).bytes(900), r"unreadable: .*x\.bmp"),
    "a PNG with a wrong checksum": ("x.png", PNG[:45] + b"\xff\xff" + PNG[47:], r"unreadable: .*x\.png"),
    "900 megapixels in a kilobyte": ("x.png", _png_of_size(30000, 30000), "megapixels, more than data.max_megapixels"),
    "a float TIFF with NaN": ("x.tif", _array(np.full((9, 9), np.nan, np.float32)), "NaN or infinity"),
    "a float TIFF with infinity": ("x.tif", _array(np.array([[1, np.inf]] * 9, np.float32)), "NaN or infinity"),
}
READABLE: dict[str, tuple[str, bytes]] = {
    "JFIF of a browser": ("x.jfif", JPEG),
    "AVIF": ("x.avif", _picture(kind="AVIF")),
    "JPEG 2000": ("x.jp2", _picture(kind="JPEG2000")),
    "TGA": ("x.tga", _picture(kind="TGA")),
    "PPM": ("x.ppm", _picture(kind="PPM")),
    "PCX": ("x.pcx", _picture(kind="PCX")),
    "ICO": ("x.ico", _picture(size=(32, 32), kind="ICO")),
    "CMYK": ("x.jpg", _picture("CMYK", kind="JPEG")),
    "a palette": ("x.png", _picture("P")),
    "one bit a pixel": ("x.png", _picture("1")),
    "grey with transparency": ("x.png", _picture("LA")),
    "transparency": ("x.webp", _picture("RGBA", kind="WEBP")),
    "16 bits": ("x.png", _array(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100, "PNG")),
    "32 bits": ("x.tif", _array(np.arange(600, dtype=np.int32).reshape(20, 30) - 70_000)),
    "floats in [0, 1]": ("x.tif", _array(np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30))),
    "negative floats": ("x.tif", _array(np.linspace(-5, 3, 600, dtype=np.float32).reshape(20, 30))),
    "one pixel": ("x.png", _picture(size=(1, 1))),
    "1 x 20000 pixels": ("x.png", _picture(size=(1, 20_000))),
    "20000 x 1 pixels": ("x.png", _picture(size=(20_000, 1))),
    "turned by EXIF": ("x.jpg", _picture(kind="JPEG", exif=_exif(6))),
    "a damaged EXIF block": ("x.jpg", _picture(kind="JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff")),
    "no ending": ("picture", JPEG),
    "PNG named .txt": ("x.txt", PNG),
    "PNG named .jpg": ("x.jpg", PNG),
    "an ending in capitals": ("x.JPEG", JPEG),
}


def _beside(name: str, data: bytes, folder: Path) -> list[str]:
    root = photos(folder / "p")
    (root / "a" / name).write_bytes(data)
    return trained(root)


def _special(make: Callable[[Path], None], folder: Path) -> list[str]:
    root = photos(folder / "p")
    make(root / "a")
    return trained(root)


def _socket(inside: Path) -> None:
    before = os.getcwd()
    os.chdir(inside)  # a socket's path must be short
    socket.socket(socket.AF_UNIX).bind("x.jpg")
    os.chdir(before)


SPECIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (lambda d: os.mkfifo(d / "x.jpg"), "is no regular file but a pipe"),
    "a device": (lambda d: (d / "x.png").symlink_to("/dev/zero"), "is no regular file but a device"),
    "a socket": (_socket, "is no regular file but a socket"),
    "a link to nothing": (lambda d: (d / "x.jpg").symlink_to(d / "gone"), r"unreadable: .*x\.jpg"),
    "a link to itself": (lambda d: (d / "x.jpg").symlink_to(d / "x.jpg"), r"unreadable: .*x\.jpg"),
    "a folder named like an image": (lambda d: (d / "x.jpg").mkdir(), r"classes +a 5, b 5"),
    "a hidden file": (lambda d: (d / ".x.jpg").write_bytes(b"junk"), r"classes +a 5, b 5"),
    "what Windows leaves": (lambda d: (d / "Thumbs.db").write_bytes(b"junk"), r"classes +a 5, b 5"),
    "what a Mac leaves": (lambda d: (d / "._0.png").write_bytes(b"junk"), r"classes +a 5, b 5"),
    "a text file": (lambda d: (d / "notes.txt").write_text("hello"), "1 files that are no images of a class"),
}
CASES = [
    *(Case(f"file: {n}", partial(_beside, f, data), 0, says) for n, (f, data, says) in UNREADABLE.items()),
    *(Case(f"file: {n}", partial(_beside, f, data), 0, r"classes +a 6, b 5") for n, (f, data) in READABLE.items()),
    *(Case(f"file: {n}", partial(_special, make), 0, says) for n, (make, says) in SPECIAL.items()),
]
