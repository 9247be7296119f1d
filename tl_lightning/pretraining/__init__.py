"""Pretraining on images drawn by formula."""

from tl_lightning import lazy

__getattr__ = lazy.exports(__name__, {"DrawnImages": "data", "Pretraining": "pretraining_module"})
