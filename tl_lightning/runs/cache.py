"""The cache folder, for people: what is in it, how much, and an end to it."""

from __future__ import annotations

import argparse
from datetime import datetime

from tl_lightning import store
from tl_lightning.paths import cache_bytes, cache_dir


def main() -> None:
    """`python scripts/cache.py list | size | clear`."""
    parser = argparse.ArgumentParser(description="Features and decoded images that later runs find ready.")
    parser.add_argument("action", choices=("list", "size", "clear"), nargs="?", default="list")
    action = parser.parse_args().action
    if action == "clear":
        print(f"{store.human(store.clear())} removed from {cache_dir()}")
        return
    held = sorted(store.entries(), key=lambda e: -e.used)
    for entry in held if action == "list" else []:
        facts, used = entry.facts, datetime.fromtimestamp(entry.used)
        what = " ".join(str(facts[k]) for k in ("network", "split", "images", "root") if k in facts)
        print(f"{entry.folder.parent.name:<9} {store.human(entry.bytes):>8}  {used:%Y-%m-%d %H:%M}  {what}")
    total, allowed = sum(e.bytes for e in held), cache_bytes()
    print(f"{len(held)} entries, {store.human(total)} of {store.human(allowed)} in {cache_dir()}")
