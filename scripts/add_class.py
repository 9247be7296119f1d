"""A further class for a finished run, without its old samples and without training.

python scripts/add_class.py run=outputs/DATE/TIME data.root=new_class
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("add_class")
