"""Weights pretrained on images drawn by formula: those that the package ships, and scripts/pretrain.py's files."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tl_lightning.errors import UserError

NAME = "formula"  # backbone.weights=formula
LICENCE = "apache-2.0"  # as all of the package
FOLDER = Path(__file__).parents[2] / "weights"
# sha256 of FOLDER/MODEL_formula.safetensors
DIGESTS = {"mobilenet_v2": "0439fd42c1edf64f54fab35d9b8cffa9e1bdc2ccc59b04251d3c72a04248b9a8"}


def shipped(model: str) -> Path:
    """The package's file for a torchvision model, its digest checked.

    Raises UserError where there is none for the model, or the file is missing or not the one that was shipped.
    """
    if model not in DIGESTS:
        raise UserError(f"{model} has no weights '{NAME}': the package ships them for {', '.join(DIGESTS)}")
    path = FOLDER / f"{model}_{NAME}.safetensors"
    if not path.is_file():
        raise UserError(f"{path} is missing: install tl_lightning again")
    if sha256(path.read_bytes()).hexdigest() != DIGESTS[model]:
        raise UserError(
            f"{path} is not the file that was shipped (its SHA-256 differs): install tl_lightning again, or name a "
            "file of your own with backbone.weights=PATH"
        )
    return path


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
