"""Pretrain a network on images drawn by formula: python scripts/pretrain.py."""

from tl_lightning.runs.cli import pretrain

if __name__ == "__main__":
    pretrain()
