"""torchvision's classification networks as backbones."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import WeightsEnum, get_model
from torchvision.models.vision_transformer import interpolate_embeddings

from tl_lightning.backbones import licences
from tl_lightning.backbones import weights as pretrained
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.from_torchvision import entries, formula
from tl_lightning.backbones.from_torchvision.depthwise import quicken
from tl_lightning.backbones.from_torchvision.families import Family, family_of
from tl_lightning.backbones.library import Source
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput


def _input(entry: WeightsEnum, own_size: int | None, image_size: int | None) -> ImageInput:
    """Preprocessing of a weights entry, at the pixels asked for or at those of weights of our own."""
    if not (image_size is None or (isinstance(image_size, int) and image_size > 0)):
        raise UserError(f"backbone.image_size={image_size} must be a whole number of pixels, or null")
    image, size = entries.image_input(entry), image_size or own_size
    return image.at(size) if size else image


def _take_off(net: nn.Module, family: Family) -> None:
    """Leave the features in the place of the classifier's answer."""
    if family.head.split(".")[0] not in family.unused:
        parent, _, child = family.head.rpartition(".")
        setattr(net.get_submodule(parent), child, nn.Identity())


def _licence(entry: WeightsEnum, weights: str | None, path: Path | None) -> str:
    """Of the weights: those that the package ships are under its own, of a local file nothing is known."""
    if weights == formula.NAME:
        return formula.LICENCE
    return licences.of_torchvision(entry.meta.get("license")) if weights is not None and path is None else ""


def _options(name: str, family: Family, image: ImageInput, random: bool) -> dict[str, Any]:
    """What torchvision's builder is told."""
    options = dict(family.options)
    if family.grid and image.size % family.grid(name):
        raise UserError(f"image_size={image.size}: {name} takes multiples of {family.grid(name)} pixels")
    if family.sized:
        options |= family.sized(image.size)
    if family.drawn:
        options[family.drawn] = random  # slow, and overwritten when weights are loaded
    return options


def torchvision(
    name: str, weights: str | None = "DEFAULT", image_size: int | None = None, features: str = "pooled"
) -> Backbone:
    """A torchvision network as a Backbone.

    `weights`: a name of torchvision's for this model, "formula" for those that the package ships, a local .safetensors
    or .pth file, or None for random ones.
    `image_size` replaces the pixels that the weights were trained on. Raises UserError for anything unknown.
    """
    family = family_of(name, features)
    entry, path = entries.find(name, weights)
    invalid_head = entry.meta["categories"] is None  # VGG16's IMAGENET1K_FEATURES: the classifier is not a number
    if invalid_head and features == "fc":
        raise UserError(f"the classifier of {entry} is no use: take features=pooled or other weights")
    own_size = formula.size(path)
    image = _input(entry, own_size, image_size)
    net = get_model(name, weights=None, **_options(name, family, image, random=weights is None))
    quicken(net)
    head = net.get_submodule(family.head)
    feature_dim = family.width or head.in_features
    for part in (p for p in family.unused if getattr(net, p) is not None):
        setattr(net, part, nn.Identity())
    has_source_head = False
    if weights is not None:
        state = entries.load(entry, path)
        if name.startswith("vit"):
            state = dict(interpolate_embeddings(image.size, net.patch_size, OrderedDict(state)))
        has_source_head = pretrained.fit(net, state, (family.head,), family.unused, str(path or entry))
    _take_off(net, family)
    known = has_source_head and not invalid_head and head.in_features == feature_dim
    source = Source(
        pretrained=weights is not None,
        small_rates=own_size is None,
        head=head if known else None,
        classes=tuple(entry.meta["categories"] or ()) if has_source_head else (),
        licence=_licence(entry, weights, path),
    )
    stages = family.stages(net)
    return Backbone(net, stages, image, feature_dim, readout=family.readout, pool=family.pool, source=source)
