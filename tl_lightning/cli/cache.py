"""The cache folder, for people: what is in it, how much, and an end to it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from tl_lightning import store
from tl_lightning.errors import UserError
from tl_lightning.paths import cache_bytes, cache_dir
from tl_lightning.printable import printable


def cache(argv: Sequence[str]) -> None:
    """`tl cache list | size | clear`."""
    parser = argparse.ArgumentParser("tl cache", description="Features and decoded images that later runs find ready.")
    parser.add_argument("action", choices=("list", "size", "clear"), nargs="?", default="list")
    action = parser.parse_args(argv).action
    try:
        _do(action)
    except UserError as error:
        sys.exit(f"error: {error}")


def _do(action: str) -> None:
    if action == "clear":
        print(f"{store.human(store.clear())} removed from {cache_dir()}")
        return
    held = sorted(store.entries(), key=lambda e: -e.used)
    for entry in held if action == "list" else []:
        used = datetime.fromtimestamp(entry.used)
        what = " ".join(_words(entry.facts))
        print(f"{entry.folder.parent.name:<9} {store.human(entry.bytes):>8}  {used:%Y-%m-%d %H:%M}  {what}")
    total, allowed = sum(e.bytes for e in held), cache_bytes()
    print(f"{len(held)} entries, {store.human(total)} of {store.human(allowed)} in {cache_dir()}")


def _words(facts: dict[str, Any]) -> Iterator[str]:
    """What tells one entry from another: "MobileNetV2 train 245 rows of 1280 mirrored=False draw=0 photos"."""
    told = {key: printable(str(value)) for key, value in facts.items()}
    if "network" in told:
        shape = "x".join(map(str, facts["shape"])) if isinstance(facts.get("shape"), list) else ""
        yield f"{told['network']} {told.get('split', '')} {told.get('images', '')} rows of {shape}"
        yield " ".join(told.get("view", "").split()[-2:])
        yield told.get("root", "")
    else:
        yield f"{told.get('images', 'unknown')} images"
