"""A flat folder of images, and tables of them."""

import csv

import pytest

from tests.pictures import write_image


@pytest.fixture
def images(tmp_path):
    """A flat folder of 24 images, twelve dark and twelve light."""
    folder = tmp_path / "images"
    for i in range(24):
        write_image(folder / f"{i:02d}.png", 60 if i < 12 else 190, i)
    return folder


def rows_of(columns=("path", "label")):
    """A header, and a row for each of the 24 images."""
    return [columns, *((f"{i:02d}.png", "dark" if i < 12 else "light") for i in range(24))]


def write(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path
