"""Hydra's composition: groups and words to one configuration, resolved once into plain values."""

from __future__ import annotations

import functools
import inspect
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from tl_lightning import targets
from tl_lightning.errors import UserError, nearest
from tl_lightning.options import OWN, conf_dir, options, plugged, torchvision_names

_composing = threading.Lock()  # Hydra keeps what it composes from in one place for the whole process


def register() -> None:
    """Make known to Hydra what configurations refer to: our resolvers, and options that no file holds."""
    OmegaConf.register_new_resolver("digits", _digits, replace=True)
    OmegaConf.register_new_resolver("run_folder", _run_folder, replace=True)
    OmegaConf.register_new_resolver("hydra_dir", _hydra_dir, replace=True)
    _store_networks()
    store = ConfigStore.instance()
    for group in ("backbone", "strategy", "head", "data"):
        for name, target in plugged(group).items():
            store.store(group=group, name=name, node=_described(target, partial=group in ("head", "data")))


@functools.cache
def _store_networks() -> None:
    """An option for every network of torchvision."""
    template, store = option("backbone", "torchvision"), ConfigStore.instance()
    for name in torchvision_names():
        has_layers = name.startswith(("vgg", "alexnet"))  # pretrained fully connected ones, which may be read instead
        more = {"features": "pooled"} if has_layers else {}
        store.store(group="backbone", name=name, node={**template, "name": name, **more})


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The values of a composed configuration, interpolations resolved, without Hydra's own."""
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return {str(k): v for k, v in values.items() if k != "hydra"}


def composed(words: Sequence[str], run_dir: str = ".", config_name: str = "train") -> dict[str, Any]:
    """The plain values of a command line's words. Raises what Hydra raises; leaves nothing of it behind."""
    return plain(_composed([*words, f"run_dir={quoted(run_dir)}"], config_name))


def sweeper_of(words: Sequence[str], config_name: str = "train") -> tuple[str, dict[str, Any]]:
    """The sweeper that a command line's words choose, and what a ready sweep among them sweeps over."""
    choosing = ("sweep=", "hparams_search=", "experiment=", "hydra/sweeper=", "hydra.sweeper.")
    cfg = _composed([word for word in words if word.startswith(choosing)], config_name, return_hydra_config=True)
    return str(cfg.hydra.runtime.choices["hydra/sweeper"]), dict(cfg.hydra.sweeper.get("params") or {})


def _composed(words: Sequence[str], config_name: str, **options: bool) -> DictConfig:
    register()
    with _composing:
        within = GlobalHydra.instance()
        before, within.hydra = within.hydra, None  # there is one where a sweep asks
        try:
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                return compose(config_name, list(words), **options)
        finally:
            within.hydra = before


def option(group: str, name: str) -> dict[str, Any]:
    """What the file of a group's option says, with the files of that group which it builds on."""
    values = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{name}.yaml"), resolve=False)
    assert isinstance(values, dict)
    found: dict[str, Any] = {}
    for other in values.pop("defaults", []):
        found |= option(group, other.partition("@")[0]) if other != "_self_" else {}
    return found | {str(k): v for k, v in values.items()}


def backbones() -> dict[str, dict[str, Any]]:
    """What every option of the group `backbone` describes that names one network."""
    files = {path.stem: option("backbone", path.stem) for path in sorted((conf_dir() / "backbone").glob("*.yaml"))}
    named = {name: spec for name, spec in files.items() if spec.get("name") not in (None, "???")}
    return named | {name: {**files["torchvision"], "name": name} for name in torchvision_names()}


def owners(group: str, key: str) -> list[str]:
    """Which options of a group have a value of this name in their file."""
    files = sorted(p.stem for p in (conf_dir() / group).glob("*.yaml"))
    return [name for name in files if key in option(group, name)]


def check_choices(argv: Sequence[str]) -> None:
    """Raise UserError with the nearest options for a group option that does not exist (sweeps: any of a list)."""
    for argument in argv:
        group, _, value = argument.partition("=")
        known = options(group) if group.isidentifier() and value else []
        for choice in (o.strip() for o in value.split(",")) if known else []:
            is_word = choice.replace("_", "").isalnum()  # a sweep may also say glob(...) or choice(...)
            nothing = group in ("experiment", "sweep") and choice == "null"
            if is_word and not nothing and choice not in (*known, OWN):
                raise UserError(f"there is no {group} '{choice}': {nearest(choice, known)}")


def _described(target: str, partial: bool) -> dict[str, Any]:
    """A plug-in as an option: its target, and what its own signature gives as defaults."""
    parameters = inspect.signature(targets.resolve(target)).parameters.values()
    given = {p.name: p.default for p in parameters if isinstance(p.default, (bool, int, float, str, type(None)))}
    return {"_target_": target, **({"_partial_": True} if partial else {}), **given}


def _digits() -> str:
    """`${digits:}`: the embedded digits, written when they are first asked for."""
    from tl_lightning.data.images.digits import folder

    return folder()


@functools.cache
def _run_folder(resume: str | None, stem: str) -> str:
    """`${run_folder:${resume},STEM}`: the run that is resumed, or a new one's."""
    return new_folder(stem) if resume is None else resume


def new_folder(stem: str) -> str:
    """A folder that nobody else has, made now: two may be asked for in one second, the second's name has a number."""
    for number in count(1):
        folder = Path(stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return str(folder)
    raise AssertionError  # count() does not end


def _hydra_dir(resume: str | None) -> str:
    """Where Hydra keeps its files in the run: apart when resuming, so that the words that began it stay."""
    return ".hydra" if resume is None else f".hydra/resumed-{datetime.now():%Y-%m-%d_%H-%M-%S}"


def quoted(text: str) -> str:
    """A text between quotation marks, as Hydra takes any: backslashes escape before a mark alone."""
    return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), text) + '"'


def merged(words: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested values as a command line would say them: {"trainer": {"max_epochs": 5}} is trainer.max_epochs=5.

    Raises UserError for a value that is no plain data.
    """
    said = []
    for key, value in words.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and not name.endswith("class_weights"):
            said += merged(value, f"{name}.")
        else:
            said.append(f"{name}={written(name, value)}")
    return said


def words_of(group: str, chosen: Any) -> list[str]:
    """A command line's words for an object (a dataclass) of a group: the option that is nearest, and what differs."""
    target, values = targets.name_of(type(chosen)), asdict(chosen)
    best: list[str] = []
    for name in options(group):
        given = option(group, name)
        if given.get("_target_") != target:
            continue
        other = {k: v for k, v in values.items() if given.get(k) != v}
        said = [f"{group}={name}", *merged({group: other})]
        best = said if not best or len(said) < len(best) else best
    return best


def written(name: str, value: Any) -> str:
    """A value as a command line says it. Raises UserError for one that is no plain data."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(written(name, v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{quoted(str(k))}:{written(name, v)}" for k, v in value.items()) + "}"
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        return quoted(str(value)) if not str(value).isidentifier() else str(value)
    raise UserError(f"{name}={value!r} is neither a number, a text, a list nor a mapping")
