"""Between the pretrained and the fine-tuned network (WiSE-FT): python scripts/wise.py run=outputs/DATE/TIME."""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("wise")
