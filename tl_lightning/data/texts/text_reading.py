"""Texts to predict for, as they come."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from tl_lightning.data import table
from tl_lightning.data.columns import TEXTS
from tl_lightning.data.incoming import Incoming
from tl_lightning.data.loader_options import among
from tl_lightning.data.texts.explaining_words import explain
from tl_lightning.data.texts.text_table import TextColumns, TextTable, items_of
from tl_lightning.errors import UserError
from tl_lightning.inputs import TOKENS, TextInput
from tl_lightning.tasks.task import MakeTask, Task

__all__ = ["batches", "explain", "joined", "labelled", "sources"]

Text = tuple[str, ...]  # one, or of pairs two
_SURROGATE = re.compile("[\ud800-\udfff]")


def sources(source: Any, column: str | None = None) -> list[tuple[str, Text]]:
    """(name, text) of a text, a pair of texts, a list of them, or of a file (a Path): .txt of lines, or a table.

    `column`: of a table; None: one that is named like those of training, or the only one. "-": lines of standard input.
    Raises UserError for anything else.
    """
    if isinstance(source, Path):
        return _named(_of_file(source.expanduser(), column))
    if source == "-":
        return _named([(line,) for line in sys.stdin.read().splitlines() if line.strip()])
    if isinstance(source, (str, tuple)):
        source = [source]
    if not isinstance(source, Sequence) or not source:
        raise UserError(f"{type(source).__name__} is no text: give a text, or a list of texts (pairs as tuples)")
    texts = [(text,) if isinstance(text, str) else tuple(text) for text in source]
    if strange := [text for text in texts if not all(isinstance(part, str) for part in text)]:
        raise UserError(f"{strange[0]!r} is no text, and no pair of texts")
    if broken := next((part for text in texts for part in text if _SURROGATE.search(part)), None):
        raise UserError(f"{broken[:60]!r} holds half of a character (a lone surrogate), which no text has")
    return _named(texts)


def batches(texts: Sequence[Text], input: TextInput, size: int) -> Iterator[Incoming]:
    """Tokens (N, T) by name, in order, up to `size` texts at once."""
    for start in range(0, len(texts), size):
        rows, _ = input.encode(texts[start : start + size])
        yield Incoming(range(start, start + len(rows)), input.collate(rows))


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Several batches (N, T) by name as one, padded with zeros to the longest."""
    longest = max(part[TOKENS[0]].shape[1] for part in parts)
    return {name: torch.cat([pad(part[name], (0, longest - part[name].shape[1])) for part in parts]) for name in TOKENS}


def labelled(where: Path, make: MakeTask, task: Task, options: Mapping[str, Any]) -> TextTable:
    """All texts of a table with their labels, in one split ("test"), under those options of training that name columns.

    Raises UserError for a table without such columns.
    """
    columns, written = among({**options, "split": "none", "weight": "none"}, TextColumns, table.Format)
    whole = table.read(where, written, columns.wanted())
    rows = columns.found(whole)
    _, cells = make(rows.labels)
    items, texts = items_of(rows, cells, task)
    every = tuple(replace(i, split="test") for i in items if not i.skipped)
    return TextTable(where, every, task, texts=texts, table=whole)


def _named(texts: Sequence[Text]) -> list[tuple[str, Text]]:
    if not texts:
        raise UserError("there are no texts to predict for")
    return [(" | ".join(text), text) for text in texts]


def _of_file(path: Path, column: str | None) -> list[Text]:
    if path.suffix.lower() == ".txt" and column is None:
        if not path.is_file():
            raise UserError(f"{path} does not exist or is no regular file")
        return [(line,) for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    found = table.read(path, table.Format(), [column] if column else [])
    known = [c for c in found.columns if c.lower() in TEXTS]
    names = [column] if column else known[:1] or list(found.columns[:1] if len(found.columns) == 1 else ())
    if not names:
        raise UserError(f"which column of {path} is the text? text=...: it has {', '.join(found.columns[:20])}")
    return [(cell,) for cell in found.column(names[0], "text")]
