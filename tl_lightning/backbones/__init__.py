"""What is transferred: networks as ordered, named stages."""

from tl_lightning.backbones.backbone import Backbone, Stage

__all__ = ["Backbone", "Stage"]
