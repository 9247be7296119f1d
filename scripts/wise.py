"""Between the pretrained and the fine-tuned network (WiSE-FT): python scripts/wise.py run=outputs/DATE/TIME."""

from tl_lightning.runs.average import main, wise

if __name__ == "__main__":
    main("run", wise)
