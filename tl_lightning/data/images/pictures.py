"""Which images are one picture: exact copies by their bytes, near ones as near_copies.py finds them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL

from tl_lightning.data.file_memo import read_memory, write_memory
from tl_lightning.data.images.inspection import Finding
from tl_lightning.data.images.near_copies import Open, near_copies
from tl_lightning.paths import cache_dir

log = logging.getLogger(__name__)

_METHOD = 1  # of near_copies.py, whose answers are remembered
MANY = 20_000  # images, among which near copies are looked for without being asked: some seconds, once


@dataclass(frozen=True)
class NearCopy:
    """Two paths of one picture whose files differ; how alike their edges are, from 0 to 1."""

    first: str
    second: str
    mirrored: bool
    alike: float


def near_pictures(
    findings: Mapping[str, Finding], opened: Open, most: int | None = MANY, ground: str = "white"
) -> list[NearCopy]:
    """The near copies among images that can be read, one of those that are equal; remembered for the same files.

    `ground`: what transparency is put on. None among more than `most` files, which is said.
    """
    first: dict[str, str] = {}
    for path, finding in findings.items():
        if not finding.fault:
            first.setdefault(finding.digest, path)
    if len(first) < 2:
        return []
    if most is not None and len(first) > most:
        log.info(f"copies    near ones are not looked for among {len(first)} images: tl doctor does it")
        return []
    digests = sorted(first, key=lambda digest: first[digest])  # as they lie: neighbours in a shard are read together
    which = hashlib.sha256("".join([f"{_METHOD} {PIL.__version__} {ground} ", *sorted(digests)]).encode()).hexdigest()
    known = cache_dir() / "near-copies" / f"{which[:32]}.json"
    rows = _read(known, digests)
    if rows is None:
        pairs = near_copies([first[d] for d in digests], findings, opened)
        rows = [[digests[p.first], digests[p.second], p.mirrored, p.alike] for p in pairs]
        write_memory(known, rows)
    return [NearCopy(first[a], first[b], mirrored, alike) for a, b, mirrored, alike in rows]


def same_pictures(findings: Mapping[str, Finding], near: Sequence[NearCopy]) -> dict[str, str]:
    """By path the digest that stands for its picture: equal for copies, near copies, and chains of them."""
    stands = {finding.digest: finding.digest for finding in findings.values()}

    def end(digest: str) -> str:
        while stands[digest] != digest:
            digest = stands[digest]
        return digest

    for pair in near:
        stands[end(findings[pair.second].digest)] = end(findings[pair.first].digest)
    return {path: end(finding.digest) for path, finding in findings.items()}


def _read(known: Path, digests: Sequence[str]) -> list[list[Any]] | None:
    """What was found before; None for nothing, or for what is no such file."""
    rows, among = read_memory(known), set(digests)
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return None
    pairs = [[type(value) for value in row] == [str, str, bool, float] and {*row[:2]} <= among for row in rows]
    return rows if all(pairs) else None
