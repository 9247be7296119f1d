"""torchvision's classification networks as backbones."""
