"""What is odd about texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from tl_lightning.data.issues import Flagged, Issue

_SHORT, _LONG = 3, 20  # characters, and times the median length
_GARBLED = ("\ufffd", "Ã¤", "Ã¶", "Ã¼", "Ã©", "â€", "Â ")  # UTF-8 read as something else, and written again


@dataclass(frozen=True)
class TextCheck:
    """Which texts, of so many characters as most have, are odd, and what to say of them."""

    kind: str
    fits: Callable[[str, float], bool]
    said: str
    remedy: str


_CHECKS = (
    TextCheck(
        "garbled",
        lambda text, usual: any(g in text for g in _GARBLED),
        "texts with letters of a wrong encoding",
        "say data.encoding=..., or mend the program that wrote them",
    ),
    TextCheck(
        "short",
        lambda text, usual: len(text) < _SHORT,
        f"texts of fewer than {_SHORT} characters",
        "remove them if they say nothing of their class",
    ),
    TextCheck(
        "long",
        lambda text, usual: len(text) > _LONG * max(usual, 1),
        f"texts that are more than {_LONG} times as long as most",
        "backbone.length says how much of them is read",
    ),
)


def text_issues(texts: Mapping[str, tuple[str, ...]]) -> Iterator[Issue]:
    """Of texts by path."""
    whole = {path: " ".join(parts).strip() for path, parts in texts.items()}
    usual = median(map(len, whole.values())) if whole else 0
    for check in _CHECKS:
        if odd := [Flagged(p, f"{len(text)} characters") for p, text in whole.items() if check.fits(text, usual)]:
            yield Issue(check.kind, f"{len(odd)} {check.said}", check.remedy, odd)
