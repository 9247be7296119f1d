"""What a configuration or a run's folder may build: an exact list of public names, and what a user admits.

A run's folder may come from a stranger, so nothing is built by where it happens to lie: a name is on the list, or it is
a class of torch's optimizers or of Lightning's callbacks and loggers, or it belongs to a package that the command line
(`allow=[my_package]`) or Python has admitted. A file admits nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from tl_lightning.errors import UserError, nearest

# ROOM: names that the room exports. What is written into a run is among them, so moving a file breaks no saved run.
PUBLIC: Mapping[str, tuple[str, ...]] = {
    "backbones": ("timm", "torchvision", "transformers"),
    "callbacks": ("BestCheckpoint", "Forgetting", "LastCheckpoint", "PhasedEarlyStopping", "PowerAverage", "Pruning",
                  "StopAfter"),
    "data": ("ImageAugmentation", "image_folder", "image_shards", "manifest", "text_table"),
    "heads": ("CosineHead", "linear", "mlp"),
    "optim": ("SAMAdamW", "constant", "cosine"),
    "pretraining": ("DrawnImages", "Pretraining"),
    "regularizers": ("BSS", "CoTuning", "Delta", "L2SP", "LwF", "none"),
    "reports": ("ContinuedCSVLogger", "EpochLines", "MLFlow", "RunProgress", "TensorBoard", "Wandb"),
    "strategies": (
        "Auto", "EarlyFeatures", "FeatureExtraction", "FinetuneAll", "FinetuneTop", "GradualUnfreeze", "LinearProbe",
        "Lora", "LpFt",
    ),
    "tasks": ("Classification", "Multilabel", "Regression", "classification", "infer", "multilabel", "regression"),
}  # fmt: skip
# MODULE: the base class of what may be built of it, by module and name.
_LIBRARIES = {
    "torch.optim": ("torch.optim", "Optimizer"),
    "lightning.pytorch.callbacks": ("lightning.pytorch.callbacks", "Callback"),
    "lightning.pytorch.loggers": ("lightning.pytorch.loggers", "Logger"),
}
# Loggers that write elsewhere than into the run.
_SENDERS = (
    "tl_lightning.reports.Wandb", "tl_lightning.reports.MLFlow",
    *(f"lightning.pytorch.loggers.{name}Logger" for name in ("Comet", "Lit", "MLFlow", "Neptune", "Wandb")),
)  # fmt: skip
GROUPS = ("backbones", "strategies", "heads", "data")  # entry points tl_lightning.GROUP add options to
_SPECIAL = ("_target_", "_partial_", "_convert_")


def build(spec: Any, allow: Sequence[str] = (), **more: Any) -> Any:
    """What plain data describes: {"_target_": name, ...options} is called, with `_partial_: true` later.

    Lists and mappings without a target are gone through. Names are checked, all of them, before anything is called.
    Raises UserError for a name that may not be built.
    """
    for name in names(spec):
        resolve(name, allow)
    return _built(spec, allow, more)


def resolve(name: str, allow: Sequence[str] = ()) -> Any:
    """The object of a public or admitted name; UserError for any other."""
    module, _, attribute = name.rpartition(".")
    room = module.removeprefix("tl_lightning.")
    if attribute in PUBLIC.get(room, ()) and module == f"tl_lightning.{room}":
        return getattr(import_module(module), attribute)
    if module in _LIBRARIES and attribute.isidentifier():
        made = getattr(import_module(module), attribute, None)
        where, base = _LIBRARIES[module]
        if isinstance(made, type) and issubclass(made, getattr(import_module(where), base)):
            return made
    if module and (name in _installed() or any(name.startswith(f"{package}.") for package in allow)):
        return _own(name, module, attribute)
    raise UserError(_refusal(name))


def sends(spec: Any) -> bool:
    """Whether a description is that of a logger which writes elsewhere than into the run."""
    return isinstance(spec, Mapping) and spec.get("_target_") in _SENDERS


def names(spec: Any) -> Iterator[str]:
    """All names that plain data would build."""
    if isinstance(spec, Mapping):
        if "_target_" in spec:
            yield str(spec["_target_"])
        spec = list(spec.values())
    if isinstance(spec, list):
        for part in spec:
            yield from names(part)


def public_names() -> list[str]:
    """Everything of this package that a file may name."""
    return sorted(f"tl_lightning.{room}.{name}" for room, listed in PUBLIC.items() for name in listed)


def name_of(kind: type) -> str:
    """The public name of a class of this package; that of any other is where it is defined."""
    room = kind.__module__.split(".")[1] if kind.__module__.startswith("tl_lightning.") else ""
    public = kind.__qualname__ in PUBLIC.get(room, ())
    return f"tl_lightning.{room}.{kind.__qualname__}" if public else f"{kind.__module__}.{kind.__qualname__}"


def plugins(group: str) -> dict[str, str]:
    """Options that installed packages add to a group, by name: the dotted name of what each builds."""
    return {e.name: e.value.replace(":", ".") for e in entry_points(group=f"tl_lightning.{group}")}


def _built(spec: Any, allow: Sequence[str], more: Mapping[str, Any]) -> Any:
    if isinstance(spec, list):
        return [_built(part, allow, {}) for part in spec]
    if not isinstance(spec, Mapping):
        return spec
    options = {k: _built(v, allow, {}) for k, v in spec.items() if k not in _SPECIAL} | dict(more)
    if "_target_" not in spec:
        return options
    made = resolve(str(spec["_target_"]), allow)
    return functools.partial(made, **options) if spec.get("_partial_") else made(**options)


def _installed() -> set[str]:
    return {name for group in GROUPS for name in plugins(group).values()}


def _own(name: str, module: str, attribute: str) -> Any:
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"_target_ '{name}' cannot be found: {error}") from error


def _refusal(name: str) -> str:
    known = public_names()
    package = name.partition(".")[0]
    if package == "tl_lightning":
        return f"_target_ '{name}' may not be built from a configuration: {nearest(name, known)}"
    how = f"; if it is your own, admit its package: allow=[{package}]" if re.fullmatch(r"\w+", package) else ""
    return f"_target_ '{name}' may not be built from a configuration: it is no public name of tl_lightning{how}"
