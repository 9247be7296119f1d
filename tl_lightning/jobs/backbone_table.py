"""The table of backbones, generated from what torchvision says."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tl_lightning.backbones.from_torchvision import entries
from tl_lightning.backbones.from_torchvision.networks import torchvision
from tl_lightning.compat import figures
from tl_lightning.options import torchvision_names
from tl_lightning.reports.markdown import markdown

# Top-5 accuracy and parameters as usually cited, and where they come from. They mix test protocols, so no single
# download reaches all of them: VGG dense and multi-crop (arXiv:1409.1556), ResNet-50 10-crop (arXiv:1512.03385),
# Inception and MobileNetV2 as converted for Keras (keras.io/api/applications), EfficientNet-B7 (arXiv:1905.11946).
_LITERATURE = {
    "vgg16": (92.7, "138M"),
    "vgg19": (92.7, "144M"),
    "resnet50": (93.3, "25M"),
    "resnet101": (93.3, "44M"),
    "inception_v3": (93.7, "24M"),
    "mobilenet_v2": (90.1, "3.4M"),
    "efficientnet_b7": (97.1, "66M"),
}
_COLUMNS = (
    "backbone", "params", "GFLOPs", "top-1", "top-5", "train px", "eval px", "features", "stages", "literature",
)  # fmt: skip


def backbone_table(names: Sequence[str] | None = None) -> str:
    """A Markdown table of torchvision's networks (default: all): figures of their default weights."""
    return markdown(_COLUMNS, [_row(name) for name in names or torchvision_names()])


def _row(name: str) -> list[str]:
    entry, _ = entries.find(name, "DEFAULT")
    image, (scores, gflops) = entries.image_input(entry), figures(entry)
    # shapes only; a RegNet's are computed by tensors
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        network = torchvision(name, None)
    cited = "top-5 {}, {}".format(*_LITERATURE[name]) if name in _LITERATURE else ""
    return [
        f"`{name}`",
        f"{entry.meta['num_params'] / 1e6:.1f}M",
        f"{gflops:.1f}",
        f"{scores['acc@1']:.1f}",
        f"{scores['acc@5']:.1f}",
        str(image.size),
        str(image.eval_size),
        str(network.feature_dim),
        " ".join(network.stage_names),
        cited,
    ]
