"""The mean of a sweep's runs, found greedily: python scripts/soup.py sweep=multirun/DATE/TIME."""

from tl_lightning.runs.average import main, soup

if __name__ == "__main__":
    main("sweep", soup)
