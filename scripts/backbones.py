"""Print the table of backbones: python scripts/backbones.py."""

from tl_lightning.runs.tables import backbones

if __name__ == "__main__":
    print(backbones())
