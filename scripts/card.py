"""The model card of a finished run.

python scripts/card.py run=outputs/DATE/TIME
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("card")
