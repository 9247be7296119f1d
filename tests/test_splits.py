"""How samples are divided: drawn by class, in folds, a few of each; written down and repeated."""

import shutil
from collections import Counter

import pytest

from tests.test_image_folder import fill, labels, read
from tl_lightning.data import drawing, splits
from tl_lightning.data.splits import Item
from tl_lightning.errors import UserError


def test_single_folder_is_split_stratified_and_seeded(tmp_path):
    root = fill(tmp_path, {"a": 40, "b": 10, "c": 5})
    found = read(root, val_fraction=0.2, test_fraction=0.2)
    assert found.task.outputs == ("a", "b", "c")
    assert labels(found, "val") == {"a": 8, "b": 2, "c": 1}
    assert labels(found, "test") == {"a": 8, "b": 2, "c": 1}
    assert labels(found, "train") == {"a": 24, "b": 6, "c": 3}
    again = read(root, val_fraction=0.2, test_fraction=0.2)
    other = read(root, val_fraction=0.2, test_fraction=0.2, split_seed=1)
    assert again.items == found.items
    assert other.items != found.items
    assert len({i.path for i in found.items}) == 55  # no image in two splits


def test_folds_validate_every_sample_once(tmp_path):
    root = fill(tmp_path, {"a": 23, "b": 10, "c": 3, "d": 1})
    for number in ("000", "001"):
        shutil.copy(root / "a" / f"{number}.png", root / "a" / f"copy{number}.png")
    parts = [read(root, folds=5, fold=k, test_fraction=0.1) for k in range(5)]
    tested = {i.path for i in parts[0].items if i.split == "test"}
    validated = [[i for i in found.items if i.split == "val"] for found in parts]
    for found, part in zip(parts, validated, strict=True):
        assert {i.path for i in found.items if i.split == "test"} == tested
        assert len({i.path for i in found.items}) == 39 and labels(found, "train")["c"] >= 1
        count = Counter(i.label for i in part)
        assert labels(found, "train")["d"] == 1  # the only one of its class is to train on
        assert 4 <= count["a"] <= 6 and count["b"] in (1, 2) and count["c"] in (0, 1)
        for number in ("000", "001"):
            assert ("val" in {i.split for i in part if i.path == f"a/copy{number}.png"}) == (
                "val" in {i.split for i in part if i.path == f"a/{number}.png"}
            )
    every = [i.path for part in validated for i in part]
    assert len(every) == len(set(every)) == 38 - len(tested)
    assert read(root, folds=5, fold=1, split_seed=1).items != read(root, folds=5, fold=1).items


def test_folds_that_cannot_be(tmp_path):
    root = fill(tmp_path, {"a": 4, "b": 4})
    for options, said in (
        ({"folds": 1}, "data.folds=1"),
        ({"folds": 3, "fold": 3}, "data.fold=3: with data.folds=3 there is no such part"),
        ({"fold": 1}, "data.fold=1: with data.folds=null"),
        ({"folds": 9}, "there are 8 samples"),
    ):
        with pytest.raises(UserError, match=said):
            read(root, **options)
    given = fill(tmp_path / "given", {"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2})
    with pytest.raises(UserError, match="which samples validate is given already"):
        read(given, folds=2)


def test_split_of_a_class_does_not_depend_on_other_classes(tmp_path):
    root = fill(tmp_path, {"a": 20, "b": 20})
    before = {i.path for i in read(root).items if i.split == "val" and i.label == "a"}
    fill(root, {"c": 7})
    assert {i.path for i in read(root).items if i.split == "val" and i.label == "a"} == before


def test_thousands_of_classes_are_split_in_moments(tmp_path):
    """Work in proportion to the images: quadratic in classes, this test would take minutes."""
    items = [Item(f"{k:05}/{i}.jpg", f"{k:05}", "train") for k in range(10_000) for i in range(10)]
    divided = drawing.stratified(items, 0.2, "val", 0)
    assert set(Counter(i.label for i in divided if i.split == "val").values()) == {2}
    few = drawing.few_shot(divided, 5, 0)
    assert set(Counter(i.label for i in few if i.split == "train" and not i.skipped).values()) == {5}


def test_splits_file_repeats_a_split(tmp_path):
    root = fill(tmp_path / "data", {"a": 10, "b": 10})
    found = read(root, split_seed=7)
    splits.write(found.items, tmp_path / "splits.csv")
    fill(root, {"a": 15})  # new images do not disturb it
    assert read(root, splits=str(tmp_path / "splits.csv")).items == found.items
    shutil.rmtree(root / "b")
    with pytest.raises(UserError, match="10 samples that are not in"):
        read(root, splits=str(tmp_path / "splits.csv"))


def test_splits_files_from_a_spreadsheet_and_after_cleaning_up(tmp_path):
    root = fill(tmp_path / "data", {"a": 6, "b": 6})
    (root / "a" / "bad.png").write_text("x")
    found = read(root)
    path = tmp_path / "splits.csv"
    splits.write(found.items, path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n")  # byte order mark, blank line
    (root / "a" / "bad.png").unlink()  # as the message advised
    assert read(root, splits=str(path)).items == found.items
    path.write_text(path.read_text(encoding="utf-8-sig") + "a/000.png,train\n")
    with pytest.raises(UserError, match="has not the 4 columns"):
        read(root, splits=str(path))


def test_few_shot_draws_readable_images_and_keeps_the_record_of_the_rest(tmp_path):
    root = fill(tmp_path, {"a": 12, "b": 12})
    for i in range(4):
        (root / "a" / f"{i:03d}.png").write_text("x")
    found = read(root, max_per_class=6)
    assert found.counts("train") == [6, 6]
    assert len(found.skipped) == 4


def test_few_shot_thins_train_alone(tmp_path):
    root = fill(tmp_path, {"a": 30, "b": 10})
    found = read(root, max_per_class=5)
    assert found.counts("train") == [5, 5]
    assert found.counts("val") == [6, 2]
