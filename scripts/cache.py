"""What is kept in the cache folder: python scripts/cache.py list | size | clear."""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("cache")
