"""Images: found, checked, decoded, transformed."""

from tl_lightning import lazy

__getattr__ = lazy.exports(__name__, {"load_rgb": "decode"})
