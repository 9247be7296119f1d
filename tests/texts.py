"""Small files of texts."""

import csv

from tests.zoo import WORDS


def write_texts(path, rows=None, columns=("text", "label"), delimiter=","):
    """`rows`, or 24 texts of two classes that a word tells apart."""
    if rows is None:
        rows = [(" ".join([("good", "awful")[i % 2], *WORDS[: 2 + i % 7]]), ("yes", "no")[i % 2]) for i in range(24)]
        rows = [(f"{text} {WORDS[i % 20]} {WORDS[(i * 7) % 20]}", label) for i, (text, label) in enumerate(rows)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(rows)
    return path
