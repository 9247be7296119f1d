"""How good a finished run is, and where it errs.

python scripts/evaluate.py run=outputs/DATE/TIME data.root=other_photos
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("evaluate")
