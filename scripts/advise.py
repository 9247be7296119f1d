"""What to train, and why, without training.

python scripts/advise.py data.root=photos [backbone=resnet50,mobilenet_v2]
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("advise")
