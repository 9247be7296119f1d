"""Tables for people, generated from what torchvision and conf/ say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from omegaconf import OmegaConf

from tl_lightning.backbones import weights
from tl_lightning.backbones.torchvision import backbone
from tl_lightning.runs.cli import choices, conf_dir

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


def backbones(names: Sequence[str] | None = None) -> str:
    """A Markdown table of backbone options (default: all of torchvision's): figures of their default weights."""
    return markdown(_COLUMNS, [_row(name) for name in names or of_torchvision()])


def of_torchvision() -> list[str]:
    """The backbone options that are a network of torchvision with ImageNet weights."""
    return [name for name in choices("backbone") if _is_imagenet(name)]


def _is_imagenet(option: str) -> bool:
    cfg = OmegaConf.load(conf_dir() / "backbone" / f"{option}.yaml")
    return bool(cfg.weights == "DEFAULT" and cfg._target_ == "tl_lightning.backbones.torchvision.backbone")


def _row(name: str) -> list[str]:
    entry, _ = weights.find(name, "DEFAULT")
    image, scores = weights.image_input(entry), entry.meta["_metrics"]["ImageNet-1K"]
    with torch.device(
        "cpu" if name.startswith("regnet") else "meta"
    ):  # shapes only; a RegNet's are computed by tensors
        network = backbone(name, None)
    cited = "top-5 {}, {}".format(*_LITERATURE[name]) if name in _LITERATURE else ""
    return [
        f"`{name}`",
        f"{entry.meta['num_params'] / 1e6:.1f}M",
        f"{entry.meta['_ops']:.1f}",
        f"{scores['acc@1']:.1f}",
        f"{scores['acc@5']:.1f}",
        str(image.size),
        str(image.eval_size),
        str(network.feature_dim),
        " ".join(network.stage_names),
        cited,
    ]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
