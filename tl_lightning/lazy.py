"""Public names of a room, imported when they are first asked for (PEP 562): importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exports(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` for names by the module (below `package`) in which each is defined; "" is a room.

    The names are in its `dir`, too, where notebooks look for what follows a dot.
    """

    def getattribute(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        if not names[name]:
            return import_module(f"{package}.{name}")
        return getattr(import_module(f"{package}.{names[name]}"), name)

    vars(import_module(package)).setdefault("__dir__", lambda: sorted({*vars(import_module(package)), *names}))
    return getattribute
