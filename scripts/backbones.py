"""Print the table of backbones: python scripts/backbones.py."""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("backbones")
