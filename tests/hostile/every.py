"""All odd inputs, and what is imported once for all of them."""

from __future__ import annotations

from importlib import import_module

from tests.hostile import files, layouts, names, runs, sources, tables, words
from tests.hostile.case import Case

CASES: list[Case] = [case for module in (files, names, layouts, tables, sources, words, runs) for case in module.CASES]
assert len({case.name for case in CASES}) == len(CASES)


def warm_up() -> None:
    """Import what every case needs, so that a fork of this process begins at once."""
    for module in ("tl_lightning.jobs.train", "tl_lightning.backbones.from_torchvision.networks", "tensorboard",
                   "tl_lightning.backbones.from_transformers", "transformers", "lightning"):  # fmt: skip
        import_module(module)
