"""Under which terms pretrained weights may be used, as far as they say so themselves."""

from __future__ import annotations

import re
from pathlib import Path

_SWAG = "cc-by-nc-4.0"  # https://github.com/facebookresearch/SWAG/blob/main/LICENSE
_NOT_COMMERCIAL = re.compile(r"(^|[-_ ])nc($|[-_ ])|non-?commercial|research-only", re.I)
_LINE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.M)


def of_torchvision(stated: str | None) -> str:
    """What an entry's meta states, as an identifier where it is known; empty for nothing."""
    if stated and "SWAG" in stated:
        return _SWAG
    return stated or ""


def of_folder(folder: Path) -> str:
    """What the model card in a folder says at its head, as those of the hub do; empty for nothing."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")[:5000]
    except (OSError, UnicodeDecodeError):
        return ""
    head = text.split("---", 2)
    found = _LINE.search(head[1]) if text.startswith("---") and len(head) == 3 else None
    return found.group(1) if found else ""


def forbids_commerce(licence: str) -> bool:
    """Whether its name says that nothing may be earned by it."""
    return bool(_NOT_COMMERCIAL.search(licence))
