"""Which pretrained weights are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_lightning.backbones.from_torchvision import entries
from tl_lightning.compat import megabytes


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
