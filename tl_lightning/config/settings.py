"""What a run is told, read once into plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tl_lightning import checks
from tl_lightning.errors import UserError, nearest

Spec = Any  # {"_target_": name, ...options}, or from Python the object itself


@dataclass(frozen=True)
class Settings:
    """The groups, each a description of what is to be built, and the values of the whole run.

    `allow`: packages of the user's own whose classes may be built; only the command line and Python say so, and it is
    kept in no file. Raises UserError for a seed that is none.
    """

    backbone: Spec
    data: Spec
    task: Spec
    strategy: Spec
    head: Spec
    regularizer: Spec
    optimizer: Spec
    schedule: Spec
    trainer: Mapping[str, Any]
    run_dir: Path
    callbacks: Mapping[str, Spec] = field(default_factory=dict)
    logger: Mapping[str, Spec] = field(default_factory=dict)
    augment: Spec = None
    seed: int = 0
    label_smoothing: float | None = None
    cache: str | int | bool = "auto"
    cache_dtype: str = "float16"
    engine: str = "auto"
    doctor: str = "warn"
    report: bool = True
    resume: str | None = None
    debug: bool = False
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks.whole("seed", self.seed, 0, 2**32 - 1)
        checks.boolean("report", self.report)

    @property
    def plain(self) -> dict[str, Any]:
        """All values but `allow` and `debug`, as a run's folder keeps them."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("allow", "debug")}
        return {**values, "run_dir": str(self.run_dir)}


def settings_of(values: Mapping[str, Any], allow: tuple[str, ...] = ()) -> Settings:
    """Settings from plain values. Raises UserError for a value that there is not, or that is missing."""
    known = {f.name for f in fields(Settings)}
    if strange := sorted(values.keys() - known):
        raise UserError(f"there is no option '{strange[0]}': {nearest(strange[0], sorted(known))}")
    if missing := sorted(_missing(values)):
        raise UserError(f"{missing[0]} must be given: {missing[0]}=...")
    said = tuple(values.get("allow") or ())
    return Settings(**{**values, "run_dir": Path(values["run_dir"]), "allow": (*said, *allow)})


def _missing(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        if value == "???":
            found.append(f"{prefix}{key}")
        elif isinstance(value, Mapping):
            found += _missing(value, f"{prefix}{key}.")
    return found
