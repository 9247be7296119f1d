"""The mean of a sweep's runs, found greedily: python scripts/soup.py sweep=multirun/DATE/TIME."""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("soup")
