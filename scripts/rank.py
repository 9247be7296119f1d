"""Backbones side by side, without training.

python scripts/rank.py data.root=photos backbones=[resnet50,mobilenet_v2]
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("rank")
