"""The words of a quick run, and the rows of its tables."""

import csv

PROBE = {"backbone": "mobilenet_v2", "backbone.weights": "formula", "backbone.image_size": 32, "data.batch_size": 4,
         "data.workers": 0, "strategy": "linear_probe", "callbacks": "none", "logger": "none"}  # fmt: skip


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
