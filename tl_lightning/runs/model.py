"""The trained network of a run: its weights and what they mean, written and read back."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tl_lightning import targets
from tl_lightning.backbones import low_rank
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.weights import put
from tl_lightning.errors import UserError
from tl_lightning.evaluation.calibration import Calibration
from tl_lightning.files import atomically
from tl_lightning.runs.folder import RunFolder
from tl_lightning.tasks.task import Task

if TYPE_CHECKING:
    from tl_lightning.strategies.plan import Strategy

_HEAD = "head."
_PACKAGES = ("tl-lightning", "torch", "torchvision", "lightning", "timm", "transformers")


@dataclass(frozen=True)
class Model:
    """A trained network in evaluation mode: normalised images (N, 3, H, W), or tokens, to outputs (N, C).

    `calibration`: what is made of the outputs.
    """

    network: nn.Sequential
    task: Task
    facts: Mapping[str, Any]
    calibration: Calibration = field(default_factory=Calibration)

    def __post_init__(self) -> None:
        if (number := len(self.calibration.thresholds)) not in (0, len(self.task.outputs)):
            raise UserError(
                f"calibration.json holds {number} thresholds, and there are {len(self.task.outputs)} {self.task.noun}: "
                "remove it, and evaluate again"
            )

    @property
    def backbone(self) -> Backbone:
        """The network without its head."""
        backbone = self.network[0]
        assert isinstance(backbone, Backbone)
        return backbone

    @property
    def head(self) -> nn.Module:
        """What turns features (N, D) into outputs (N, C)."""
        return self.network[1]


def write_model(folder: RunFolder, state: Mapping[str, Tensor], facts: Mapping[str, Any], backbone: Backbone) -> None:
    """model.safetensors under the library's own key names, the head's under `head.`, and model.json beside it."""
    write_weights(folder, state)
    if backbone.library.save:
        backbone.library.save(folder.library)
    folder.write_facts({**facts, "versions": {"python": platform.python_version(), **_versions()}})


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_weights(folder: RunFolder, state: Mapping[str, Tensor]) -> None:
    """model.safetensors, never half written; what was made of other weights, thresholds and features, goes."""
    for made in (folder.calibration_file, folder.features_file):
        made.unlink(missing_ok=True)
    atomically(folder.weights_file, lambda path: save_file(dict(state), path, {"format": "pt"}))


def state_of(net: nn.Module, head: nn.Module) -> dict[str, Tensor]:
    """The weights of a network and its head under the names that a run's file gives them."""
    state = net.state_dict() | {_HEAD + k: v for k, v in head.state_dict().items()}
    return {k: v.contiguous().cpu() for k, v in state.items()}


def load_state(state: Mapping[str, Tensor], net: nn.Module, head: nn.Module) -> None:
    """Put weights that `state_of` gave into a network and a head."""
    own = net.state_dict().keys()  # of which some may begin like the head's
    put(net, {k: v for k, v in state.items() if k in own})
    head.load_state_dict({k.removeprefix(_HEAD): v for k, v in state.items() if k not in own})


def described(strategy: Strategy) -> dict[str, Any]:
    """A strategy as a configuration would write it."""
    return {"_target_": targets.name_of(type(strategy)), **asdict(strategy)}


def load_model(run: str | Path, allow: Sequence[str] = (), backbone: Backbone | None = None, head: Any = None) -> Model:
    """The model of a finished run. Needs nothing but the run's folder.

    `allow`: packages of the user's own that it may be built of. `backbone`: the network, untrained, and `head`:
    what makes the head, of a run that was given them from Python. Raises UserError if there is no such run, or it
    cannot be built.
    """
    folder = RunFolder(Path(run).expanduser())
    facts = folder.facts()
    try:
        state = load_file(folder.weights_file)
    except FileNotFoundError as error:
        raise UserError(f"{folder.path} holds no finished run: {folder.weights_file.name} is missing") from error
    except SafetensorError as error:
        raise UserError(f"{folder.weights_file} is damaged: {error}") from error
    network = backbone or _backbone(folder, facts, allow)
    network = targets.build(facts["strategy"], allow).shape(network)
    low_rank.merge(network.net)
    task: Task = targets.build(facts["task"], allow)
    make = head or targets.build(_refuse_objects(facts["head"], "head", folder), allow)
    made: nn.Module = make if isinstance(make, nn.Module) else make(network.feature_dim, task.start())
    load_state(state, network.net, made)
    return Model(nn.Sequential(network, made).eval(), task, facts, folder.calibration())


def _backbone(folder: RunFolder, facts: Mapping[str, Any], allow: Sequence[str]) -> Backbone:
    """The network without weights, as wide as the run's images and with the files that lie in its folder."""
    spec = _refuse_objects(facts["backbone"], "backbone", folder)
    known: dict[str, Any] = {}
    if folder.library.is_dir():
        known["name"] = str(folder.library)
    if "image_size" in spec and (size := facts["preprocessing"].get("size")):  # a ViT's positions are made for it
        known["image_size"] = size
    if "weights" in spec:
        known["weights"] = None
    backbone: Backbone = targets.build({**spec, **known}, allow)
    backbone.input = backbone.input.read_as(facts["preprocessing"])
    return backbone


def _refuse_objects(spec: Any, group: str, folder: RunFolder) -> dict[str, Any]:
    if not isinstance(spec, Mapping) or "_target_" not in spec:
        raise UserError(
            f"{folder.path} was trained with a {group} of your own ({spec}), which no file describes: "
            f"give it again, tl_lightning.load(run, {group}=...)"
        )
    return dict(spec)
