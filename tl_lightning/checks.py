"""Checks of single values, for the dataclasses and constructors that own them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from tl_lightning.errors import UserError


def whole(key: str, value: Any, least: int, most: int | None = None, *, optional: bool = False) -> None:
    """UserError unless `value` is a whole number within bounds (or None, if that is an option)."""
    _number(key, value, (int,), "whole number", least, most, optional)


def number(key: str, value: Any, least: float, most: float | None = None, *, optional: bool = False) -> None:
    """UserError unless `value` is a number within bounds (or None, if that is an option)."""
    _number(key, value, (int, float), "number", least, most, optional)


def one_of(key: str, value: Any, known: Sequence[Any]) -> None:
    """UserError unless `value` is one of the known ones."""
    if value not in known:
        words = [str(option) for option in known]
        close = difflib.get_close_matches(str(value), words, n=1, cutoff=0.6)
        meant = f": did you mean {close[0]}?" if close else ":"
        raise UserError(f"{key}={value} is unknown{meant} use {', '.join(words)}")


def boolean(key: str, value: Any) -> None:
    """UserError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise UserError(f"{key}={value} must be true or false")


def _number(
    key: str, value: Any, kinds: tuple[type, ...], what: str, least: float, most: float | None, optional: bool
) -> None:
    if value is None and optional:
        return
    fits = isinstance(value, kinds) and not isinstance(value, bool)
    if not fits or not value >= least or (most is not None and value > most):  # nan is not at least anything
        upto = "" if most is None else f", at most {most}"
        raise UserError(f"{key}={value} must be a {what} of at least {least}{upto}")
