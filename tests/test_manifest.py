"""Images that a table names: their columns are found, their labels are of any task, what is wrong is named by row."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

from tests.image_tables import rows_of, write
from tests.pictures import write_image
from tl_lightning.config.compose import composed
from tl_lightning.config.words import arguments
from tl_lightning.data.images import manifest
from tl_lightning.data.images.manifest import ImageColumns
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError
from tl_lightning.tasks import Classification, Multilabel, Regression


def read(file, root=None, written=None, **options):
    named = {k: options.pop(k) for k in list(options) if k in ("path", "label", "split", "weight", "separator")}
    columns, division = ImageColumns(**named), SplitOptions(**options)
    return manifest.read(file, None if root is None else str(root), columns=columns, division=division, written=written)


@pytest.mark.parametrize("header", [("path", "label"), ("image_id", "Class"), ("Filename", "target"), ("x", "label")])
def test_columns_are_found_by_their_names(images, header):
    found = read(write(images / "table.csv", rows_of(header)))
    assert (found.size("train"), found.size("val")) == (19 + 1, 4)
    assert isinstance(found.task, Classification) and found.task.outputs == ("dark", "light")
    assert found.used("train")[0].path == "00.png"


def test_files_of_every_kind_say_the_same(images, tmp_path):
    pytest.importorskip("pyarrow")
    rows, frame = rows_of(), pd.DataFrame(rows_of()[1:], columns=["path", "label"])
    frame.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text(
        "".join(f"{json.dumps(dict(zip(*(rows[0], r), strict=True)))}\n" for r in rows[1:])
    )
    write(tmp_path / "t.tsv", rows, "\t")
    write(tmp_path / "t.csv", rows)
    found = [read(tmp_path / f"t.{ending}", images) for ending in ("csv", "tsv", "jsonl", "parquet")]
    found.append(read(frame, images))
    assert all(one.items == found[0].items for one in found[1:])
    assert found[0].size("val") == 4


def test_paths_begin_in_the_file_s_folder_or_in_root_or_anywhere(images, tmp_path):
    below = [("path", "label"), *((f"images/{p}", label) for p, label in rows_of()[1:])]
    anywhere = [("path", "label"), *((images / p, label) for p, label in rows_of()[1:])]
    for rows, root in ((below, None), (rows_of(), images), (anywhere, None), (anywhere, images)):
        found = read(write(tmp_path / "table.csv", rows), root)
        assert [found.sample(i) for i in found.items] == [str(images / f"{i:02d}.png") for i in range(24)]


def test_windows_paths_and_names_without_an_ending(images, tmp_path):
    images.rename(tmp_path / "deep")
    (tmp_path / "images").mkdir()
    (tmp_path / "deep").rename(tmp_path / "images" / "deep")
    rows = [("path", "label"), *((f"images\\deep\\{p[:-4]}", label) for p, label in rows_of()[1:])]
    found = read(write(tmp_path / "table.csv", rows))
    assert found.items[0].path == "images/deep/00.png"
    with pytest.raises(UserError, match=r"row 25 is not below"):
        read(write(tmp_path / "out.csv", [*rows, ("images\\..\\..\\x.png", "dark")]))
    assert found.size("train") + found.size("val") == 24


def test_columns_of_splits_groups_and_weights(images, caplog):
    caplog.set_level(logging.INFO)
    extra = [
        (*row, "validation" if i % 4 == 0 else "train", f"p{i // 3}", i % 2) for i, row in enumerate(rows_of()[1:])
    ]
    table = write(images / "t.csv", [("path", "label", "split", "patient", "weight"), *extra])
    found = read(table, weight="weight")
    assert found.size("val") == 6
    said = "path for the path, label for the label, split for the split, patient for the group, weight for the weight"
    assert f"columns   {said}" in caplog.messages
    assert any("groups are in more than one split" in m for m in caplog.messages)
    used = found.used("train")
    assert found.weights_of("train").mean() == pytest.approx(1)
    assert {w for i, w in zip(used, found.weights_of("train"), strict=True) if int(i.path[:2]) % 2 == 0} == {0}
    drawn = read(table, split="none")
    groups = [set(drawn.groups(split, "patient")) for split in ("train", "val")]
    assert groups[0] and groups[1] and not groups[0] & groups[1]
    assert drawn.weights_of("train") is None  # "weight" alone may be that of a fish: it is named, or not taken
    apart = read(table, split="none", group="none")
    assert set(apart.groups("train", "patient")) & set(apart.groups("val", "patient"))


def test_a_folder_of_tables(images):
    rows = rows_of()
    write(images / "train.csv", [rows[0], *rows[1:9], *rows[13:21]])
    write(images / "valid.csv", [rows[0], *rows[9:13], *rows[21:]])
    found = read(images)
    assert (found.size("train"), found.size("val")) == (16, 8)


def test_labels_of_every_task(images):
    names = [f"{i:02d}.png" for i in range(24)]
    several = [
        ("path", "label"),
        *((n, "|".join(c for k, c in enumerate("ab") if i >> k & 1)) for i, n in enumerate(names)),
    ]
    columns = [("path", "a", "b"), *((n, i & 1, i >> 1 & 1) for i, n in enumerate(names))]
    values = [("path", "label"), *((n, f"{i / 7:.2f}") for i, n in enumerate(names))]
    first = read(write(images / "s.csv", several), separator="|")
    second = read(write(images / "c.csv", columns), label=["a", "b"])
    assert isinstance(first.task, Multilabel) and isinstance(second.task, Multilabel)
    assert first.task.outputs == second.task.outputs == ("a", "b")
    for found in (first, second):
        used = found.used("train")
        np.testing.assert_array_equal(found.targets("train")[:, 0], [int(i.path[:2]) & 1 for i in used])
    assert isinstance(read(write(images / "v.csv", values)).task, Regression)


def test_what_is_not_there_or_twice_is_named_by_its_row(images, caplog):
    rows = [*rows_of(), ("gone.png", "dark"), ("03.png", "dark"), ("./03.png", "dark")]
    found = read(write(images / "t.csv", rows))
    assert any("1 of 25 images are not there: gone.png in row 25; splits.csv names all" in m for m in caplog.messages)
    assert any(
        "1 images are named more than once" in m and "03.png in rows 4 and 26 and 27" in m for m in caplog.messages
    )
    assert [(i.path, i.skipped) for i in found.skipped] == [("gone.png", "it is not there")]
    assert found.size("train") + found.size("val") == 24
    unlabelled = read(write(images / "u.csv", [*rows_of()[:24], ("23.png", "")]))
    assert unlabelled.task.outputs == ("dark", "light")
    assert [(i.path, i.skipped) for i in unlabelled.skipped] == [("23.png", "no label")]


FAULTS = {
    "no such column": (rows_of(("a", "label")), {"path": "b"}, "has no column 'b'"),
    "which column": ([("a", "b", "c"), ("x", "y", "z")], {}, "which column is the label.* has a, b, c"),
    "which path": ([("a", "b", "label"), ("x", "y", "z")], {}, "which column is the path.* has a, b, label"),
    "two labels": ([*rows_of(), ("03.png", "light")], {}, "03.png is 'dark' in row 4 and 'light' in row 25: keep one"),
    "outside": ([*rows_of(), ("../x.png", "light")], {}, r"\.\./x.png in row 25 is not below .*: .*data.root"),
    "no path": ([*rows_of(), ("", "light")], {}, "row 25 has no path"),
    "nothing there": ([("path", "label"), ("x.png", "a"), ("y.png", "b")], {}, "none of the 2 images is there.*root"),
    "one class": (rows_of()[:13], {}, "holds one class only, 'dark'"),
    "below the header": ([("path", "label")], {}, "a first line and nothing below"),
    "a weight": ([("path", "label", "w"), *((*r, "much") for r in rows_of()[1:])], {"weight": "w"},
                 "row 1 has the weight 'much'"),
    "floats": ([("path", "label"), *((f"{i:02d}.png", i / 7) for i in range(24))], {"max_per_class": 3},
               "data.max_per_class is for classes"),
    "a group": (rows_of(), {"group": "patient_(.*)"}, "data.group=.* finds nothing in 00.png"),
    "folds": ([("path", "label", "who"), *((*r, i % 3) for i, r in enumerate(rows_of()[1:]))],
              {"group": "who", "folds": 4}, "3 groups cannot be divided into 4 parts"),
    "a split": ([("path", "label", "s"), *((*r, "x") for r in rows_of()[1:])], {"split": "s"},
                "its column of splits holds 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_trained_on_is_refused(fault, images):
    rows, options, said = FAULTS[fault]
    with pytest.raises(UserError, match=said):
        read(write(images / "t.csv", rows), **options)


def test_an_absolute_path_that_leaves_a_named_root_is_refused(images, tmp_path):
    write_image(tmp_path / "elsewhere.png", 60, 1)
    rows = [*rows_of(), (tmp_path / "elsewhere.png", "dark")]
    with pytest.raises(UserError, match=r"elsewhere.png in row 25 is not below"):
        read(write(tmp_path / "t.csv", rows), images)
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(UserError, match="is empty"):
        read(empty)


def test_the_columns_say_which_data_a_file_is_for(images, tmp_path):
    def chosen(*words):
        return composed(arguments(list(words)), str(tmp_path))["data"]["_target_"].rpartition(".")[2]

    named = write(images / "t.csv", rows_of())
    texts = write(tmp_path / "texts.csv", [("id", "text", "label"), ("1", "good", "a"), ("2", "bad", "b")])
    captions = write(tmp_path / "c.csv", [("path", "text", "label"), ("00.png", "good", "a"), ("01.png", "bad", "b")])
    assert chosen(f"data.file={named}") == "manifest"
    assert chosen(f"data.file={named}", f"data.root={images}") == "manifest"
    assert chosen(f"data.file={texts}", "backbone=text", "backbone.name=x") == "text_table"
    assert chosen(f"data.file={captions}") == "manifest"
    assert chosen(f"data.root={images}") == "image_folder"
    news = write(tmp_path / "n.csv", [("id", "headline", "label"), ("1", "good", "a"), ("2", "bad", "b")])
    text = ("backbone=text", "backbone.name=x")
    assert chosen(f"data.file={news}", *text) == chosen(f"data.file={named}", "data.text=path", *text) == "text_table"
    assert chosen(f"data.file={news}", "data.path=id") == "manifest"
    (tmp_path / "g.csv").write_bytes("id,text,label\n1,\u4f60\u597d,a\n".encode("gbk"))
    assert chosen(f"data.file={tmp_path / 'g.csv'}", "data.encoding=gbk", *text) == "text_table"
