"""What is odd about image files that can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from tl_lightning.data.images.inspection import Finding
from tl_lightning.data.issues import Flagged, Issue

_BLANK = 3.0  # standard deviation of grey levels, of 255
_LONG = 3  # times the shorter side
_SAME_FORMATS = {"MPO": "JPEG", "APNG": "PNG", "DIB": "BMP"}  # an iPhone's .jpg may hold several pictures
_STILL = ("MPO", "ICO")  # hold one picture in several sizes


@dataclass(frozen=True)
class FileCheck:
    """Which files are odd, how each is, and what to say of all; `drop`: they teach nothing."""

    kind: str
    fits: Callable[[str, Finding], bool]
    note: Callable[[str, Finding], str]
    said: str
    remedy: str
    drop: bool = False


_CHECKS = (
    FileCheck(
        "blank",
        lambda path, f: f.spread < _BLANK,
        lambda path, f: f"grey levels vary by {f.spread:.1f} of 255",
        "images that show nothing, or nearly",
        "remove them if they show nothing of their class",
        drop=True,
    ),
    FileCheck(
        "long",
        lambda path, f: max(f.width, f.height) > _LONG * min(f.width, f.height),
        lambda path, f: f"{_size(f)}: a square crop loses {1 - min(f.width, f.height) / max(f.width, f.height):.0%}",
        f"images that are more than {_LONG} times as long as wide",
        "of these a crop sees the middle alone: cut them where something is to be seen",
    ),
    FileCheck(
        "endings",
        lambda path, f: _same(f.kind) != _same(_promised(path) or f.kind),
        lambda path, f: f"is {f.kind}",
        "files that are called otherwise than what they hold",
        "training reads what they hold; rename them for other programs",
    ),
    FileCheck(
        "animated",
        lambda path, f: f.frames > 1 and f.kind not in _STILL,
        lambda path, f: f"{f.frames} frames",
        "files that hold several frames",
        "the first is taken; save the others as files of their own if they count",
    ),
    FileCheck(
        "turned",
        lambda path, f: f.turned,
        lambda path, f: f"{_size(f)} once upright",
        "images that lie on their side and say so (EXIF)",
        "training and predictions set them upright; other programs may not",
    ),
)


def file_issues(findings: Mapping[str, Finding], size: int) -> Iterator[Issue]:
    """Of files that can be read, by path; `size`: the side that the network sees."""
    read = {path: finding for path, finding in findings.items() if not finding.fault}
    small = FileCheck(
        "small",
        lambda path, f: min(f.width, f.height) < size,
        lambda path, f: _size(f),
        f"images that are smaller than the {size} pixels that the network sees",
        f"they are enlarged, which adds nothing{_cheaper(read, size)}",
    )
    for check in (*_CHECKS, small):
        if flagged := [Flagged(path, check.note(path, f)) for path, f in read.items() if check.fits(path, f)]:
            drop = [f.path for f in flagged] if check.drop else []
            yield Issue(check.kind, f"{len(flagged)} {check.said}", check.remedy, flagged, drop=drop)
    yield from _mixtures(read)


def _mixtures(read: Mapping[str, Finding]) -> Iterator[Issue]:
    """Kinds of pixels that only some images have."""
    modes = Counter("16 bits" if f.level else "grey" if f.mode in ("L", "1", "LA") else "colour" for f in read.values())
    if len(modes) > 1:
        said = ", ".join(f"{count} {name}" for name, count in modes.most_common())
        rare = modes.most_common()[-1][0]
        remedy = f"see that {rare} does not give a class away: a network learns that first"
        yield Issue("modes", f"images of several kinds: {said}", remedy)


def _size(finding: Finding) -> str:
    return f"{finding.width} x {finding.height}"


def _promised(path: str) -> str:
    """The format that an ending stands for; empty for one that stands for none."""
    return Image.registered_extensions().get(Path(path).suffix.lower(), "")


def _same(kind: str) -> str:
    return _SAME_FORMATS.get(kind, kind)


def _cheaper(read: Mapping[str, Finding], size: int) -> str:
    """The size, a multiple of 32, that costs less where most images are smaller than the network sees."""
    usual = median(min(f.width, f.height) for f in read.values()) if read else size
    return f": backbone.image_size={max(32, int(usual) // 32 * 32)} costs less" if usual < size else ""
