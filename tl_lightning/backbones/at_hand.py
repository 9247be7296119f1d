"""Which pretrained weights are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_lightning.backbones import packaged
from tl_lightning.backbones.from_torchvision import entries
from tl_lightning.compat import megabytes


def images_at_hand(specs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the descriptions of networks of images whose weights are on this machine."""
    return [name for name, spec in specs.items() if _is_here(spec)]


def _is_here(spec: Mapping[str, Any]) -> bool:
    if spec["_target_"] == "tl_lightning.backbones.torchvision":
        return not absent_weights(spec, download=False)
    return spec.get("weights") == packaged.NAME and packaged.is_installed(spec["name"])


def absent_weights(spec: Mapping[str, Any], download: bool) -> str:
    """Why the weights that a description of a backbone names are not to be had, for people; empty where they are.

    `download`: what is not on this machine may be fetched.
    """
    if spec.get("weights", "") is None:
        return "random weights know nothing: name some with backbone.weights"
    if spec["_target_"] != "tl_lightning.backbones.torchvision" or download:
        return ""
    entry, path = entries.find(spec["name"], spec["weights"])
    if entries.at_hand(entry, path):
        return ""
    return f"its weights {entry} are not on this machine: download=true fetches {megabytes(entry):.0f} MB ({entry.url})"
