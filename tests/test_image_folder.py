"""Layouts, splits, dirt and the errors they deserve."""

import csv
import json
from collections import Counter
from zlib import crc32

import pytest
from PIL import Image

from tests.conftest import write_image
from tl_lightning.build import build
from tl_lightning.data import splits
from tl_lightning.data.images import image_folder as folders
from tl_lightning.data.images import inspection
from tl_lightning.data.images.image_folder import Checking
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError
from tl_lightning.paths import cache_dir


def fill(root, counts, extension="png"):
    for folder, count in counts.items():
        for i in range(count):  # no two of them the same: copies stay on one side of a split
            write_image(root / folder / f"{i:03d}.{extension}", 100, crc32(f"{folder} {i}".encode()), (12, 12))
    return root


def read(root, on_error="skip", **division):
    return folders.read(str(root), division=SplitOptions(**division), checking=Checking(on_error))


def labels(found, split):
    return Counter(i.label for i in found.items if i.split == split and not i.skipped)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_given_splits_share_one_class_index(val, tmp_path):
    root = fill(tmp_path, {"train/a": 3, "train/b": 4, "train/c": 2, f"{val}/b": 2, f"{val}/c": 1, "test/c": 1})
    found = read(root)
    assert [label for _, label in found.split("val")] == [1, 1, 2]
    assert [label for _, label in found.split("test")] == [2]
    assert found.counts("train") == [3, 4, 2]


def test_missing_val_is_drawn_from_train_and_test_kept(tmp_path):
    root = fill(tmp_path, {"train/a": 10, "train/b": 10, "test/a": 3, "test/b": 3})
    found = read(root, val_fraction=0.3)
    assert found.counts("val") == [3, 3]
    assert found.counts("test") == [3, 3]


def test_a_class_may_be_called_train(tmp_path):
    root = fill(tmp_path, {"train": 5, "bus": 5})
    assert read(root).task.outputs == ("bus", "train")


def test_nested_hidden_and_other_files(tmp_path, caplog):
    root = fill(tmp_path, {"a/deep/er": 4, "b": 4, ".cache/x": 3, "__MACOSX/a": 2})
    (root / "a" / "notes.txt").write_text("hello")
    (root / "b" / "._0.png").write_bytes(b"resource fork")
    caplog.set_level("INFO")
    found = read(root)
    assert found.task.outputs == ("a", "b")
    assert len(found.items) == 8
    assert "1 files that are no images of a class" in caplog.text


def test_what_browsers_and_phones_save_counts_as_images(tmp_path):
    """By what is in the files, in one class like in all: a .jfif or .avif is no reason to leave an image out."""
    for name, kind, form in (("a", "jfif", "JPEG"), ("b", "avif", "AVIF"), ("c", "unknown", "WEBP")):
        for i in range(12):
            ending = kind if i > 5 else "jpg"
            path = tmp_path / name / f"{i}.{ending}"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (20, 20), (20 * i, 100, 50)).save(path, form)
    folder = folders.read(str(tmp_path))
    assert Counter(item.label for item in folder.items if not item.skipped) == {"a": 12, "b": 12, "c": 12}


def test_upper_case_extensions(tmp_path):
    root = fill(tmp_path, {"a": 3, "b": 3}, extension="PNG")
    assert len(read(root).items) == 6


def test_unreadable_files_are_named_skipped_and_written_down(tmp_path, caplog):
    root = fill(tmp_path / "data", {"a": 6, "b": 6})
    (root / "a" / "000.png").write_bytes((root / "a" / "000.png").read_bytes()[:60])
    (root / "b" / "empty.jpg").touch()
    (root / "b" / "fake.jpg").write_text("<html>not found</html>")
    (root / "b" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    found = read(root)
    assert {i.path for i in found.skipped} == {"a/000.png", "b/empty.jpg", "b/fake.jpg", "b/gone.jpg"}
    assert sum(found.counts("train")) + sum(found.counts("val")) == 11
    for name in ("000.png", "empty.jpg", "fake.jpg", "gone.jpg"):
        assert f"unreadable: {root}" in caplog.text
        assert name in caplog.text
    assert "skipped 4 unreadable of 15 images" in caplog.text
    splits.write(found.items, tmp_path / "splits.csv")
    with (tmp_path / "splits.csv").open() as file:
        reasons = {r["path"]: r["skipped"] for r in csv.DictReader(file)}
    assert reasons["b/empty.jpg"] == "is empty: 0 bytes"
    assert reasons["b/fake.jpg"] == "is a web page or XML, not an image: download it again"
    assert reasons["a/001.png"] == ""
    with pytest.raises(UserError, match=r"4 unreadable images, the first .*000.png"):
        read(root, on_error="raise")


def test_verdicts_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    root = fill(tmp_path, {"a": 3, "b": 3})
    paths = [f"{c}/{i:03d}.png" for c in "ab" for i in range(3)]
    looked = []
    found = inspection._finding

    def look(path, *options):
        looked.append(path.name)
        return found(path, *options)

    monkeypatch.setattr(inspection, "_finding", look)
    first = inspection.look(root, paths)
    assert not any(finding.fault for finding in first.values())
    assert len(looked) == 6
    assert inspection.look(root, paths) == first
    assert len(looked) == 6
    write_image(root / "a" / "000.png", 10, 99, (20, 20))
    inspection.look(root, paths)
    assert looked[6:] == ["000.png"]
    for memory in (cache_dir()).glob("looks-*/*.json"):  # whoever can write there makes nothing else of it
        kept = json.loads(memory.read_text())
        memory.write_text(json.dumps({path: [*answer[:2], {"x": 1}] for path, answer in kept.items()}))
    assert inspection.look(root, paths[1:]) == {p: first[p] for p in paths[1:]}
    assert len(looked) == 12


def test_names_that_are_no_utf8(tmp_path):
    import os

    root = fill(tmp_path / "data", {"a": 4, "b": 4})
    os.rename(root / "a" / "000.png", os.fsencode(root / "a") + b"/caf\xe9.png")
    found = read(root)
    splits.write(found.items, tmp_path / "splits.csv")
    assert read(root, splits=str(tmp_path / "splits.csv")).items == found.items


def test_linked_folders_are_followed_and_loose_images_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    root = fill(tmp_path / "data", {"a": 3, "b": 3})
    fill(tmp_path / "elsewhere", {"x": 4})
    (root / "a" / "more").symlink_to(tmp_path / "elsewhere" / "x", target_is_directory=True)
    write_image(root / "loose.png", 50, 1)
    assert len(read(root).items) == 10
    assert "1 images lie outside of class folders and are left alone" in caplog.text


BAD = {
    "missing": ({}, "does not exist"),
    "no class folder": ({".": 3}, "holds no class folders"),
    "one class": ({"a": 3}, "one class only, 'a'"),
    "class absent in train": ({"train/a": 2, "train/b": 2, "val/a": 1, "val/z": 1}, "class 'z' is in val but absent"),
    "two folders for val": ({"train/a": 2, "train/b": 2, "val/a": 1, "valid/a": 1}, "several folders for the split"),
    "nothing to validate": ({"a": 1, "b": 1}, "left for validation"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_layouts(case, tmp_path):
    counts, message = BAD[case]
    root = fill(tmp_path / "data", {k: v for k, v in counts.items() if v})
    for folder, count in counts.items():
        if not count:
            (root / folder).mkdir()
    with pytest.raises(UserError, match=message):
        read(root)


def test_all_unreadable(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match="none of the 2 images"):
        read(tmp_path)


def test_class_with_unreadable_images_only(tmp_path):
    root = fill(tmp_path, {"a": 4, "b": 4})
    (root / "c").mkdir()
    (root / "c" / "1.jpg").write_text("x")
    with pytest.raises(UserError, match="class 'c' has no usable image"):
        read(root)


@pytest.mark.parametrize(
    "options", [{"val_fraction": 0.0}, {"val_fraction": 1.5}, {"test_fraction": 0.9}, {"on_error": "x"}]
)
def test_bad_options(options, tmp_path):
    with pytest.raises(UserError, match=r"data\."):
        read(fill(tmp_path, {"a": 3, "b": 3}), **options)


def test_large_images_before_a_network_that_sees_few_pixels_are_said(configure, tmp_path):
    """Three times as many on the shorter side, and more; and nothing where the network sees what there is."""
    for folder, side in (("large", 97), ("small", 95)):
        for k, name in enumerate(("a", "b")):
            for i in range(4):
                write_image(tmp_path / folder / name / f"{i}.png", 80 + 60 * k, i, (side, side + 40))
        words = (
            "backbone.weights=formula",
            "backbone.image_size=32",
            f"data.root={tmp_path / folder}",
            "data.batch_size=2",
        )
        said = build(configure("backbone=mobilenet_v2", *words, run=folder)).data.remark()
        assert said == "" if folder == "small" else "are some 97 pixels" in said and "image_size=64" in said
