"""The options of every group, without importing a library of networks: files of conf/, torchvision's list, plug-ins."""

from __future__ import annotations

import functools
import re
from importlib.machinery import PathFinder
from pathlib import Path

from tl_lightning.targets import GROUPS, plugins

_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
OWN = "own"  # an option that holds nothing but a target
_OWN_GROUPS = {"backbone": "backbones", "strategy": "strategies", "head": "heads", "data": "data"}  # of entry points
assert set(_OWN_GROUPS.values()) == set(GROUPS)


def conf_dir() -> Path:
    """The configuration groups: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def groups() -> list[str]:
    """The configuration groups."""
    return sorted(p.name for p in conf_dir().iterdir() if p.is_dir())


def options(group: str) -> list[str]:
    """The options of a configuration group, by name; `own`, which stands for a class of the user's, is none of them."""
    files = {p.stem for p in (conf_dir() / group).glob("*.yaml")} - {OWN}
    listed = set(torchvision_names()) if group == "backbone" else set()
    return sorted(files | listed | plugged(group).keys())


def plugged(group: str) -> dict[str, str]:
    """Options of a group that installed packages add, with the dotted name of what each builds."""
    return plugins(_OWN_GROUPS[group]) if group in _OWN_GROUPS else {}


@functools.cache
def torchvision_names() -> tuple[str, ...]:
    """Torchvision's classification networks, as its source registers them: importing it takes two seconds."""
    spec = PathFinder.find_spec("torchvision")  # past the finder of compat.py, which would import torch
    if spec is None or spec.origin is None:
        return ()
    sources = sorted((Path(spec.origin).parent / "models").glob("*.py"))
    return tuple(sorted(name for s in sources for name in _REGISTERED.findall(s.read_text(encoding="utf-8"))))
