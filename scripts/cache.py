"""What is kept in the cache folder: python scripts/cache.py list | size | clear."""

from tl_lightning.runs.cache import main

if __name__ == "__main__":
    main()
