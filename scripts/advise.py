"""What to train, and why, without training.

python scripts/advise.py data.root=photos [backbone=resnet50,mobilenet_v2]
"""

from tl_lightning.runs.advise import advise

if __name__ == "__main__":
    advise()
