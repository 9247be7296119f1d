"""The weights that torchvision offers: found by name, with their preprocessing, downloaded or from its cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import WeightsEnum, get_model_weights

from tl_lightning.backbones.from_torchvision import formula
from tl_lightning.backbones.weights import SUFFIXES, local, of_file, single
from tl_lightning.errors import UserError, nearest
from tl_lightning.inputs import ImageInput

# Training crops where they differ from the evaluation crop, which is all that torchvision's metadata holds.
# ResNet: vision#3995 (trained at 176, measured at 224). EfficientNet B2-B4: converted from timm, whose
# configurations give the training size.
_TRAIN_SIZES = {
    "ResNet50_Weights.IMAGENET1K_V2": 176,
    "ResNet101_Weights.IMAGENET1K_V2": 176,
    "EfficientNet_B2_Weights.IMAGENET1K_V1": 256,
    "EfficientNet_B3_Weights.IMAGENET1K_V1": 288,
    "EfficientNet_B4_Weights.IMAGENET1K_V1": 320,
}


def find(name: str, weights: str | None) -> tuple[WeightsEnum, Path | None]:
    """The weights entry of torchvision model `name` that `weights` means, and the local file if it is one.

    A file, or None, takes preprocessing from the model's default entry. Raises UserError for any other name.
    """
    entries = get_model_weights(name)
    if weights is None:
        return entries.DEFAULT, None
    if not isinstance(weights, str):
        raise UserError(f"backbone.weights={weights} must be a name, a file or null")
    if weights == formula.NAME:
        return entries.DEFAULT, formula.shipped(name)
    if (path := local(weights)) is not None:
        return entries.DEFAULT, path
    known = [*entries.__members__, *([formula.NAME] if name in formula.DIGESTS else [])]
    if weights not in known:
        raise UserError(
            f"{name} has no weights '{weights}': {nearest(weights, known)}; or give a local file "
            f"({', '.join(SUFFIXES)}), or null for random weights"
        )
    return entries[weights], None


def at_hand(entry: WeightsEnum, path: Path | None) -> bool:
    """Whether the file is on this machine, so that nothing need be downloaded."""
    return path is not None or _downloaded(entry).is_file()


def _downloaded(entry: WeightsEnum) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name


def image_input(entry: WeightsEnum) -> ImageInput:
    """The preprocessing of a weights entry, training size included."""
    transform = entry.transforms()
    crop = transform.crop_size[0]
    smallest = max(entry.meta.get("min_size", (1, 1)))
    if smallest >= crop:  # ViT and Swin list the crop itself, but run on less (ViT: positions are interpolated)
        smallest = 1
    return ImageInput(
        size=_TRAIN_SIZES.get(str(entry), crop),
        eval_size=crop,
        eval_resize=transform.resize_size[0],
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        min_size=smallest,
    )


def load(entry: WeightsEnum, path: Path | None) -> dict[str, Tensor]:
    """Parameters in float32, from a local file or from torchvision's cache, downloaded if they are not there.

    Raises UserError if they cannot be had.
    """
    return of_file(path) if path else single(_download(entry))


def _download(entry: WeightsEnum) -> Mapping[str, Tensor]:
    try:
        state: Mapping[str, Tensor] = entry.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"weights {entry} cannot be downloaded from {entry.url} ({error}): put the file at {_downloaded(entry)}, "
            "name a local file with backbone.weights=PATH, or take a backbone whose weights come with the package: "
            f"backbone={' or '.join(f'{model}_{formula.NAME}' for model in formula.DIGESTS)}"
        ) from error
    return state
