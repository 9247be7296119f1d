"""Texts to predict for, as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from tl_lightning.errors import UserError
from tl_lightning.inputs import TextInput


def read(source: Any, input: TextInput) -> Iterator[tuple[str, np.ndarray]]:
    """(text, tokens and segments (T, 2)) of a text, a pair of texts, or a list of them.

    Raises UserError for anything else.
    """
    if isinstance(source, (str, tuple)):
        source = [source]
    if not isinstance(source, Sequence) or not source:
        raise UserError(f"{type(source).__name__} is no text: give a text, or a list of texts (pairs as tuples)")
    texts = [(text,) if isinstance(text, str) else tuple(text) for text in source]
    if strange := [text for text in texts if not all(isinstance(part, str) for part in text)]:
        raise UserError(f"{strange[0]!r} is no text, and no pair of texts")
    rows, _ = input.encode(texts)
    for text, row in zip(texts, rows, strict=True):
        yield " | ".join(text), row


def stack(rows: Sequence[np.ndarray], input: TextInput) -> Mapping[str, Tensor]:
    """Tokens and segments (T, 2) as (N, T) by name."""
    return input.collate(rows)
