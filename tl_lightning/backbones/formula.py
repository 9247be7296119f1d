"""Weights pretrained on images drawn by formula, as scripts/pretrain.py writes them."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open


def size(path: Path | None) -> int | None:
    """Pixels of the drawn images that this file of weights was last trained on; None for any other file."""
    if path is None or path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
    except (SafetensorError, OSError):  # which is said where the file is read
        return None
    return int(facts["size"]) if "recipe" in facts else None
