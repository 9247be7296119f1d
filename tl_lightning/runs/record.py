"""A run is a folder: what is written into it, and the model read back."""

from __future__ import annotations

import copy
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
import torchvision
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tl_lightning
from tl_lightning.backbones import low_rank
from tl_lightning.data import splits
from tl_lightning.data.labelled import Collection
from tl_lightning.errors import UserError
from tl_lightning.module import TransferModule
from tl_lightning.runs.build import instantiate
from tl_lightning.strategies.plan import Strategy

_HEAD = "head."
_LIBRARY = "backbone"  # folder of what a library needs to build a network again: its configuration, the tokenizer


def write_start(run: Path, cfg: DictConfig, folder: Collection) -> None:
    """config.yaml and splits.csv: enough to repeat or resume the run, also after its folder has moved."""
    run.mkdir(parents=True, exist_ok=True)
    values = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    values.run_dir = str(run)  # the paths within keep referring to it
    values.data["file" if "file" in values.data else "root"] = str(folder.root.absolute())
    OmegaConf.save(values, run / "config.yaml")
    splits.write(folder.items, run / "splits.csv")


def write_model(run: Path, module: TransferModule, strategy: Strategy, cfg: DictConfig) -> None:
    """model.safetensors under the library's own key names, the head's under `head.`, and model.json beside it."""
    net = copy.deepcopy(module.backbone.net)
    low_rank.merge(net)
    write_weights(run, state_of(net, module.head))
    facts = {
        "backbone": OmegaConf.to_container(cfg.backbone, resolve=True),
        "classes": list(module.classes),
        "multi": module.multi,
        "preprocessing": module.backbone.input.facts(),
        "features": module.backbone.feature_dim,
        "head": OmegaConf.to_container(cfg.head, resolve=True),
        "strategy": described(strategy),
        "versions": {
            "python": platform.python_version(),
            "tl_lightning": tl_lightning.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "lightning": lightning.__version__,
        },
    }
    if module.backbone.save:
        module.backbone.save(run / _LIBRARY)
    write_json(run / "model.json", facts)


def state_of(net: nn.Module, head: nn.Module) -> dict[str, Tensor]:
    """The weights of a network and its head under the names that a run's file gives them."""
    state = net.state_dict() | {_HEAD + k: v for k, v in head.state_dict().items()}
    return {k: v.contiguous().cpu() for k, v in state.items()}


def load_state(state: Mapping[str, Tensor], net: nn.Module, head: nn.Module) -> None:
    """Put weights that `state_of` gave into a network and a head."""
    own = net.state_dict().keys()  # of which some may begin like the head's
    net.load_state_dict({k: v for k, v in state.items() if k in own})
    head.load_state_dict({k.removeprefix(_HEAD): v for k, v in state.items() if k not in own})


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """model.safetensors, never half written."""
    _atomically(folder / "model.safetensors", lambda path: save_file(dict(state), path, {"format": "pt"}))


def target(strategy: Strategy) -> str:
    """Where a strategy's class is found."""
    return f"tl_lightning.strategies.{type(strategy).__qualname__}"


def described(strategy: Strategy) -> dict[str, Any]:
    """A strategy as the configuration would write it."""
    return {"_target_": target(strategy), **asdict(strategy)}


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Readable JSON, never half written."""
    _atomically(
        path, lambda draft: draft.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    )


def load_model(run: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The trained network of a finished run, in eval mode, and the contents of its model.json.

    It takes normalised images (N, 3, H, W), or tokens (N, T, 3), to logits (N, C). Needs nothing but the run's folder.
    """
    folder = Path(run)
    try:
        facts: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no finished run: {Path(error.filename).name} is missing") from error
    known = {"name": str(folder / _LIBRARY)} if (folder / _LIBRARY).is_dir() else {}
    if size := facts["preprocessing"].get("size"):  # a ViT's positions are made for it
        known["image_size"] = size
    backbone = instantiate(OmegaConf.create({**facts["backbone"], "weights": None, **known}))
    backbone = instantiate(OmegaConf.create(facts["strategy"])).shape(backbone)
    low_rank.merge(backbone.net)
    prior = torch.full((len(facts["classes"]),), 1 / len(facts["classes"]))
    head: nn.Module = instantiate(OmegaConf.create(facts["head"]))(backbone.feature_dim, prior)
    load_state(state, backbone.net, head)
    return nn.Sequential(backbone, head).eval(), facts


def _atomically(path: Path, write: Any) -> None:
    draft = path.with_name(path.name + ".part")
    draft.touch()
    mode = draft.stat().st_mode
    write(draft)
    draft.chmod(mode)  # safetensors would keep it from all other users
    os.replace(draft, path)
