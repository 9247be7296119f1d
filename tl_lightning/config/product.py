"""The jobs of a sweep over a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from tl_lightning.config.compose import written
from tl_lightning.errors import UserError

# Words that change nothing of what a run takes, and others that change nothing of what frozen stages compute.
_SAME_COST = (
    "seed",
    "optimizer.lr",
    "optimizer.weight_decay",
    "schedule",
    "label_smoothing",
    "report",
)
_SAME_FEATURES = (*_SAME_COST, "head", "optimizer", "regularizer", "callbacks", "logger", "trainer.max_epochs",
          "data.class_weights", "data.sampler")  # fmt: skip


def combinations(words: Sequence[str]) -> list[list[str]]:
    """The words of every job: all combinations of those that list several values, a later word in place of an earlier.

    Jobs that share what their frozen stages compute follow each other, so that it is computed once, and is still there
    where the cache is too small for all. Raises UserError for values that cannot be listed.
    """
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides(list(words)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices[key] = [f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise UserError(f"{override.input_line}: a grid has no intervals: list values, or search by "
                            "hydra/sweeper=optuna")  # fmt: skip
        if not choices[key]:
            raise UserError(f"{override.input_line} lists no value")
    grouped: dict[tuple[str, ...], list[list[str]]] = {}
    for job in map(list, product(*choices.values())):
        grouped.setdefault(feature_words(job), []).append(job)
    return [job for group in grouped.values() for job in group]


def differing(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The names of the words in which some jobs differ."""
    values: dict[str, set[str]] = {}
    for job in jobs:
        for word in job:
            values.setdefault(word.lstrip("+~").partition("=")[0], set()).add(word)
    return [name for name, words in values.items() if len(words) > 1]


def feature_words(job: Sequence[str]) -> tuple[str, ...]:
    """The words that choose what frozen stages compute."""
    return _without(job, _SAME_FEATURES)


def cost_words(job: Sequence[str]) -> tuple[str, ...]:
    """The words that choose what a run takes."""
    return _without(job, _SAME_COST)


def _without(job: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    keys = [(word, word.lstrip("+~").partition("=")[0]) for word in job]
    return tuple(word for word, key in keys if not any(key == name or key.startswith(f"{name}.") for name in names))


def as_words(params: Mapping[str, Any] | None) -> list[str]:
    """The words of a sweeper's `params`; a text may list several values."""
    said = {key: value if isinstance(value, str) else written(key, value) for key, value in (params or {}).items()}
    return [f"{key}={value}" for key, value in said.items()]
