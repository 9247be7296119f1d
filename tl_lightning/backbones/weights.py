"""Pretrained parameters: found by name or in a local file, and fitted to a network key by key."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights

from tl_lightning.backbones import formula
from tl_lightning.errors import UserError, nearest
from tl_lightning.inputs import ImageInput

log = logging.getLogger(__name__)

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
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

    A file, or None, takes preprocessing from the model's default entry.
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
            f"({', '.join(_SUFFIXES)}), or null for random weights"
        )
    return entries[weights], None


def local(weights: str | None) -> Path | None:
    """The file that `weights` names, if it looks like one; UserError if it is not there."""
    if not isinstance(weights, str) or not weights.endswith(_SUFFIXES):
        return None
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist")
    return path


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
    """Parameters in float32, from a local file or from torchvision's cache, downloaded if they are not there."""
    return _single(_read(path) if path else _download(entry))


def of_file(path: Path) -> dict[str, Tensor]:
    """Parameters in float32 from a local file; UserError if it holds anything else."""
    return _single(_read(path))


def _single(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


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


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"weights file {path} cannot be read: {first_line(error)}") from error
    except Exception as error:  # pickle's errors have no common base; weights_only refuses anything but tensors
        raise UserError(
            f"weights file {path} holds more than plain tensors and is not loaded: {first_line(error)}"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"weights file {path} is no state dict: it must map parameter names to tensors")
    return state


def first_line(error: BaseException) -> str:
    """An exception's message up to its first line break."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def fit(net: nn.Module, state: dict[str, Tensor], heads: Sequence[str], unused: Sequence[str], source: str) -> bool:
    """Load `state` into `net`; True if the classifier under `heads` came along.

    Keys under `unused` prefixes belong to parts that the backbone leaves out. A classifier of another size is
    dropped with one line; anything else missing, unexpected or misshapen is an error that lists it.
    """
    want = net.state_dict()
    state = {k: v for k, v in state.items() if not _under(k, unused)}
    # a run's file has its new head under "head."
    classifier = [k for k in sorted({*want, *state}) if _under(k, heads) or (k not in want and _under(k, ("head",)))]
    kept = bool(classifier) and all(k in want and k in state and want[k].shape == state[k].shape for k in classifier)
    if not kept:
        if sizes := [str(len(state[k])) for k in classifier if k in state and state[k].ndim]:
            log.info(f"the classifier in {source} is for {sizes[-1]} classes, not the source's, and is dropped")
        state = {k: v for k, v in state.items() if k not in classifier}
        want = {k: v for k, v in want.items() if k not in classifier}
    faults = {
        "missing": [k for k in want if k not in state and not k.endswith("num_batches_tracked")],
        "unexpected": [k for k in state if k not in want],
        "of another shape": [k for k in state if k in want and state[k].shape != want[k].shape],
    }
    if any(faults.values()):
        listed = "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in faults.items() if keys)
        raise UserError(f"weights {source} are of another architecture than {type(net).__name__}: {listed}")
    net.load_state_dict(state, strict=False)
    return kept


def _under(key: str, prefixes: Sequence[str]) -> bool:
    return any(key == p or key.startswith(p + ".") for p in prefixes)


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:4]) + (" ..." if len(keys) > 4 else "")
