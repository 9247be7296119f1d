"""Small files of texts."""

import csv

from tests.zoo import WORDS
from tl_lightning.data.loader_options import grouped
from tl_lightning.data.splits import SplitOptions
from tl_lightning.data.table import Format
from tl_lightning.data.texts import text_table
from tl_lightning.data.texts.text_table import TextColumns
from tl_lightning.tasks import infer


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


def read_texts(file, task=infer, **options):
    """A file's texts under the options of its columns and of its division."""
    columns, division, written = grouped(options, TextColumns, SplitOptions, Format)
    return text_table.read(str(file), task, columns, division, written)


def of_every_task(folder, model, label):
    """A table whose columns `word`, `score` and `several` are a class, a value and several classes; words to train."""
    words = [("good", "awful")[i % 2] for i in range(40)]
    rows = [(f"{WORDS[i % 20]} {word} {WORDS[i // 20]}", word, 0.5 + i % 7, f"{word}|{WORDS[i % 3]}")
            for i, word in enumerate(words)]  # fmt: skip
    file = write_texts(folder / "texts.csv", rows, ("text", "word", "score", "several"))
    options = {"backbone": "text", "backbone.name": str(model), "backbone.length": 16, "strategy": "linear_probe",
               "data.batch_size": 4, "trainer": "cpu", "data.text": "text", "data.label": label}  # fmt: skip
    return file, {**options, **({"data.separator": "bar"} if label == "several" else {})}
