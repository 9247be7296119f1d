"""timm's networks as backbones: stages end where timm's own feature_info says."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tl_lightning.backbones import hub, packaged, replay
from tl_lightning.backbones import weights as pretrained
from tl_lightning.backbones.backbone import Backbone, Stage, evaluating, run_one
from tl_lightning.backbones.folding import holds
from tl_lightning.backbones.library import Library, RunStages, Source
from tl_lightning.backbones.stretches import stretches
from tl_lightning.errors import UserError, nearest
from tl_lightning.inputs import ImageInput

log = logging.getLogger(__name__)

_MOST_STAGES = 6  # a list of blocks longer than this is cut into quarters
_LISTS = ("stages", "blocks", "layers", "levels")
_FILES = ("model.safetensors", "pytorch_model.bin")


def timm(name: str, weights: str | None = "DEFAULT", image_size: int | None = None) -> Backbone:
    """A timm network as a Backbone.

    `weights`: "DEFAULT" for those that timm's name stands for, "packaged" for those of an installed package, a local
    .safetensors or .pth file, or None for random ones. `image_size` replaces the pixels of the weights. Raises
    UserError for anything unknown, for weights that are neither here nor to be had, and for networks that do not run
    stage by stage.
    """
    hub.installed("timm", "timm")
    import timm as library

    _check_name(name, library)
    path = pretrained.local(weights)
    if weights not in (None, "DEFAULT", packaged.NAME) and path is None:
        raise UserError(f"backbone.weights={weights}: of timm's networks take DEFAULT, a local file, or null")
    net = _made(name, image_size, library)
    image = _input(net.pretrained_cfg, image_size)
    classifier = net.get_classifier()
    has_head = weights is not None and _load(name, net, weights, path)
    net.reset_classifier(0)
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    try:
        stages, run_stages, width = _stages(net, image)
        if not next(net.parameters()).is_meta:
            _try(net, stages, torch.randn(2, 3, image.eval_size, image.eval_size))
    except (UserError, RuntimeError, ValueError, IndexError, AttributeError) as error:
        why = pretrained.first_line(error)
        raise UserError(f"timm's {name} does not run stage by stage: {why}; take another of its networks") from error
    known = has_head and isinstance(classifier, nn.Linear) and classifier.in_features == width
    source = Source(
        pretrained=weights is not None,
        head=classifier if known else None,
        classes=_classes(net) if known else (),
        licence=str(net.pretrained_cfg.get("license") or "") if weights is not None and path is None else "",
    )
    runs = Library(run_stages, compiles=False)  # by its forward, with other modules in the place of some
    return Backbone(net, stages, image, width, readout=_readout, pool=_pooling(net), source=source, library=runs)


def _readout(net: Any, x: Tensor) -> Tensor:
    """What timm makes of its last feature map: pooling, and layers that come between it and the classifier."""
    features: Tensor = net.forward_head(x)
    return features


@torch.no_grad()
def _try(net: Any, stages: Sequence[Stage], images: Tensor) -> None:
    """UserError unless the stages give what the network gives; whether BatchNorms fold is noted."""
    with evaluating(net):
        expected = net(images)
        net.folds = holds(net, images[:1])
    if not replay.agree(net, [*(s.run for s in stages), _readout], images, expected):
        raise UserError("what its stages give differs from what it gives")


def _check_name(name: str, library: Any) -> None:
    if not isinstance(name, str) or not library.is_model(name):
        raise UserError(f"timm has no network '{name}': {nearest(str(name).partition('.')[0], library.list_models())}")
    tags = [m.partition(".")[2] for m in library.list_pretrained(name.partition(".")[0])] if "." in name else []
    if tags and name.partition(".")[2] not in tags:
        raise UserError(f"timm has no weights '{name}': {nearest(name.partition('.')[2], tags)}")


def _made(name: str, image_size: int | None, library: Any) -> Any:
    fixed = library.get_pretrained_cfg(name)
    sized = {"img_size": image_size} if image_size and fixed is not None and fixed.fixed_input_size else {}
    try:
        return library.create_model(name, pretrained=False, **sized)
    except (AssertionError, ValueError, RuntimeError, TypeError) as error:
        raise UserError(
            f"timm's {name} cannot be built at image_size={image_size}: {pretrained.first_line(error)}"
        ) from error


def _input(cfg: dict[str, Any], image_size: int | None) -> ImageInput:
    """Timm's preprocessing, at its training and test sizes."""
    (_, height, width), test = cfg["input_size"], cfg.get("test_input_size")
    if height != width:
        raise UserError(f"images of {width} x {height} pixels are not square: take another network")
    if (mode := cfg.get("crop_mode") or "center") != "center":
        log.info(f"image     these weights were tried with crop_mode={mode}, here the centre of an image is cut out")
    size = image_size or height
    eval_size = image_size or (test[1] if test else height)
    share = (cfg.get("test_crop_pct") if test else None) or cfg.get("crop_pct") or 0.875
    how = cfg.get("interpolation") or "bicubic"
    return ImageInput(
        size, eval_size, round(eval_size / share), how, tuple(cfg["mean"]), tuple(cfg["std"]), min_size=32
    )


def _load(name: str, net: Any, weights: str, path: Path | None) -> bool:
    """Put weights into `net`; True if its classifier came along."""
    state = packaged.state_for(name, net.state_dict()) if weights == packaged.NAME else _state(name, net, path)
    own = net.pretrained_cfg.get("classifier")
    heads = (own,) if isinstance(own, str) else tuple(own or ())
    return pretrained.fit(net, state, heads, (), str(path or name))


def _state(name: str, net: Any, path: Path | None) -> dict[str, Tensor]:
    """Parameters for `net`, from a file or the hub, converted as timm converts them."""
    if path is None:
        repo = net.pretrained_cfg.get("hf_hub_id")
        if not repo:
            raise UserError(f"timm has no weights for {name} on the hub: take backbone.weights=null, or a local file")
        path = Path(hub.fetch(repo, _FILES, "Name a local file with backbone.weights=PATH"))
    state = pretrained.of_file(path)
    if all(k in state and state[k].shape == v.shape for k, v in net.state_dict().items()):
        return state
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    converted: dict[str, Tensor] = convert(state, net) if convert else state
    return converted


def _stages(net: Any, image: ImageInput) -> tuple[list[Stage], RunStages, int]:
    ends = _ends(net)
    first = f"{ends[0].rpartition('.')[0]}.0"  # where the blocks are a list, what comes before it is the stem
    siblings = [first] if first in dict(net.named_modules()) else []
    blank = torch.zeros(1, 3, image.eval_size, image.eval_size, device=next(net.parameters()).device)
    with evaluating(net), replay.Calls(net, replay.units(net, [*ends, *siblings])) as calls:
        width = net(blank).shape[1]
    order = calls.order
    after = [order[order.index(e) + 1] for e in ends[:-1]]
    starts = sorted((s for s in {*siblings, *after} if replay.begins(calls, s)), key=order.index)
    prefixes = replay.owners(net, order, starts)
    if len(prefixes) < 2:
        raise UserError("its parts pass more than one tensor")
    run_stages = stretches(calls, starts, blank, "forward_features")
    names = ["stem", *(f"stage{i}" for i in range(1, len(prefixes)))]
    stages = [
        Stage(n, owned, partial(run_one, run_stages, i))
        for i, (n, owned) in enumerate(zip(names, prefixes, strict=True))
    ]
    return stages, run_stages, width


def _ends(net: Any) -> list[str]:
    """The modules that end a stage; of a long list of blocks, those that end its quarters."""
    known = dict(net.named_modules())
    ends = list(dict.fromkeys(".".join(f["module"].split(".")[:2]) for f in net.feature_info))
    ends = [e for e in ends if e in known and e]
    if not ends:
        ends = next(([f"{c}.{i}" for i, _ in enumerate(known[c].children())] for c in _LISTS if c in known), [])
    if not ends:
        raise UserError("timm says of it neither stages nor blocks")
    if len(ends) > _MOST_STAGES:
        ends = [ends[len(ends) * q // 4 - 1] for q in (1, 2, 3, 4)]
    return ends


def _pooling(net: Any) -> Callable[[Tensor], Tensor]:
    """Of what a stage gives: maps with channels first or last, or tokens, of which the first are no patches.

    Maps are square: the sides tell where the channels are, unless these are as many.
    """
    prefix, last = int(getattr(net, "num_prefix_tokens", 0) or 0), getattr(net, "output_fmt", "NCHW") == "NHWC"

    def pool(x: Tensor) -> Tensor:
        if x.ndim == 3:
            return x[:, prefix:].mean(1)
        first, second, third = x.shape[1:]
        channels_last = last if first == second == third else first == second
        return x.mean((1, 2)) if channels_last else x.mean((2, 3))

    return pool


def _classes(net: Any) -> tuple[str, ...]:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(net)
    if not subset:
        return ()
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(info.num_classes()))
