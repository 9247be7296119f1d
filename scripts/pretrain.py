"""Pretrain a network on images drawn by formula: python scripts/pretrain.py."""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("pretrain")
