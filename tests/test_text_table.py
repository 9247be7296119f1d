"""Files of texts as they come: read whole, or refused in one line that says what is wrong."""

import json

import numpy as np
import pytest

from tests.texts import read_texts, write_texts
from tl_lightning.data import splits, table
from tl_lightning.errors import UserError
from tl_lightning.tasks import classification

ROWS = [(f"text number {i}, with a comma", ("a", "b")[i % 2]) for i in range(20)]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".csv", ";"), (".txt", "|"), (".tsv", "\t")])
def test_delimiters_are_found(suffix, delimiter, tmp_path):
    found = read_texts(str(write_texts(tmp_path / f"x{suffix}", ROWS, delimiter=delimiter)))
    assert found.task.outputs == ("a", "b")
    assert sorted(t for s in ("train", "val") for (t,), _ in found.split(s)) == sorted(t for t, _ in ROWS)
    assert [sum(found.counts(s)) for s in ("train", "val", "test")] == [16, 4, 0]


def test_json_lines_and_parquet(tmp_path):
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"label": b, "text": a}) for a, b in ROWS) + "\n\n")
    expected = table.read(tmp_path / "x.jsonl")
    assert expected.column("text", "data.text") == [a for a, _ in ROWS]
    with pytest.raises(UserError, match="line 1 is no JSON"):
        table.read(write_texts(tmp_path / "y.jsonl", ROWS))
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({"label": [b for _, b in ROWS], "text": [a for a, _ in ROWS]}), tmp_path / "x.parquet")
    assert table.read(tmp_path / "x.parquet").rows == expected.rows


def test_a_quotation_mark_may_be_only_that(tmp_path):
    lines = ["label\ttext"] + [
        f'{"ab"[i % 2]}\t"well {i}, he said' if i == 3 else f"{'ab'[i % 2]}\tx{i}" for i in range(9)
    ]
    (tmp_path / "x.tsv").write_text("\n".join(lines))
    assert len(table.read(tmp_path / "x.tsv").rows) == 9
    quoted = 'label,text\na,"two\nlines, one ""cell"""\nb,c\n'
    (tmp_path / "y.csv").write_text(quoted)
    assert table.read(tmp_path / "y.csv").rows == [["a", 'two\nlines, one "cell"'], ["b", "c"]]


def test_quotation_marks_that_do_not_pair(tmp_path, caplog):
    """Where lines are not whole without them: read as they are within a line, refused where a cell would go on."""
    (tmp_path / "x.csv").write_text('label,text\na,"x, y"\nb,"so" he said\na,c\n')
    assert table.read(tmp_path / "x.csv").rows == [["a", "x, y"], ["b", "so he said"], ["a", "c"]]
    assert "quotation marks do not pair in some lines" in caplog.text
    (tmp_path / "y.csv").write_text('label,text\na,"x, y"\nb,"oops\n' + "a,c\n" * 100)
    with pytest.raises(UserError, match="do not pair, in line 3 or before"):
        table.read(tmp_path / "y.csv")


def test_a_cell_of_many_lines_holds_no_tabs(tmp_path):
    """In files that never quote, one text may begin with a quotation mark and a later one end with it."""
    lines = [f"{'ab'[i % 2]}\t" + '"' * (i == 3) + f"text {i}" + '"' * (i == 7) for i in range(10)]
    (tmp_path / "x.tsv").write_text("\n".join(["label\ttext", *lines]))
    assert table.read(tmp_path / "x.tsv").column("text", "")[3] == '"text 3'
    (tmp_path / "y.tsv").write_text('label\ttext\na\t"two\nlines"\nb\tx\n')
    assert table.read(tmp_path / "y.tsv").rows == [["a", "two\nlines"], ["b", "x"]]


def test_what_spreadsheets_write(tmp_path):
    (tmp_path / "mac.csv").write_bytes(b'label,text\ra,"x, y"\rb,z\r')
    (tmp_path / "sep.csv").write_text("sep=;\nlabel;text\na;x, y\nb;z\n")
    (tmp_path / "wide.csv").write_text('label,text,,\na,"x, y",,\nb,z,,\n')
    for name in ("mac", "sep", "wide"):
        found = table.read(tmp_path / f"{name}.csv")
        assert (found.columns, found.rows) == (("label", "text"), [["a", "x, y"], ["b", "z"]]), name
    (tmp_path / "nan.jsonl").write_text('{"label": NaN, "text": "x"}\n{"label": "a", "text": "\\ud800y"}\n')
    assert table.read(tmp_path / "nan.jsonl").rows == [["", "x"], ["a", "?y"]]


def test_only_ends_of_lines_end_lines(tmp_path):
    text = "one\u2028two\x85three"
    (tmp_path / "x.tsv").write_text(f'label\ttext\na\t{text}\nb\t"well\r\n', encoding="utf-8", newline="")
    assert table.read(tmp_path / "x.tsv").rows == [["a", text], ["b", '"well']]
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\r\n", encoding="utf-8")
    assert table.read(tmp_path / "x.jsonl").rows == [[text]]


def test_lists_are_several_classes(tmp_path):
    records = [{"label": ["a", "b"][: i % 3], "text": t} for i, (t, _) in enumerate(ROWS)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert read_texts(str(tmp_path / "x.jsonl"), separator="|").task.outputs == ("a", "b")
    assert read_texts(str(tmp_path / "x.jsonl"), separator="bar").task.outputs == ("a", "b")
    assert read_texts(str(tmp_path / "x.jsonl")).task.outputs == ("a", "b")


def test_encodings_and_nuls(tmp_path, caplog):
    text = "label,text\na,caf\u00e9\nb,\u2019tis\n"
    for name, raw in {
        "utf8": text.encode(),
        "mark": text.encode("utf-8-sig"),
        "utf16": text.encode("utf-16"),
        "latin": text.encode("cp1252"),
        "nul": text.replace("caf", "c\0af").encode(),
    }.items():
        (tmp_path / f"{name}.csv").write_bytes(raw)
        found = table.read(tmp_path / f"{name}.csv")
        assert found.columns == ("label", "text"), name
        assert found.column("text", "") == ["caf\u00e9", "\u2019tis"], name
    assert "latin.csv is not UTF-8 (byte 16): it is read as Windows-1252" in caplog.text
    assert "nul.csv holds 1 NUL characters" in caplog.text


def test_a_very_long_text_is_one_cell(tmp_path):
    rows = [("word " * 200_000, "a"), *ROWS]
    assert max(len(r[0]) for r in table.read(write_texts(tmp_path / "x.csv", rows)).rows) == 1_000_000


BAD = {
    "no such column": (ROWS, ("text", "label"), {"text": "sentense"}, "no column 'sentense': .*text"),
    "which column": (ROWS, ("foo", "bar"), {}, "which column is the label.* has foo, bar"),
    "measurements": (
        [(t, f"{i}.25") for i, (t, _) in enumerate(ROWS)],
        ("text", "label"),
        {"task": classification},
        "numbers there, like 0.25",
    ),
    "one class": ([(t, "a") for t, _ in ROWS], ("text", "label"), {}, "holds one class only, 'a'"),
    "no classes": (
        [(str(i), f"name {i}") for i in range(200)],
        ("text", "label"),
        {},
        "200 different ones in 200 rows",
    ),
    "nothing below": ([], ("text", "label"), {}, "nothing below it"),
    "wrong delimiter": (
        ROWS,
        ("text", "label"),
        {"delimiter": "semicolon", "text": "text"},
        "with data.delimiter=comma there is one",
    ),
    "no delimiter": (ROWS, ("text", "label"), {"delimiter": "ab"}, "must be one character"),
    "three texts": (ROWS, ("text", "label"), {"text": ["a", "b", "c"]}, "one column, or two"),
    "same": (ROWS, ("text", "label"), {"text": "label", "label": "label"}, "data.label=label is data.text"),
    "half": (ROWS, ("text", "label"), {"val_fraction": "half"}, "data.val_fraction=half must be a number"),
    "twice": (ROWS, ("text", "text"), {}, "two columns 'text'"),
    "fractions": (ROWS, ("text", "label"), {"val_fraction": 1.5}, "val_fraction=1.5"),
    "lonely": ([("x", "c"), ("", "b"), *((t, "a") for t, _ in ROWS)], ("text", "label"), {"val_fraction": 0.5}, None),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_trained_on_is_refused(name, tmp_path):
    rows, columns, options, said = BAD[name]
    file = str(write_texts(tmp_path / "x.csv", rows, columns))
    if said is None:  # a class of one text stays in train; a row without text is set aside
        found = read_texts(file, **options)
        assert found.task.outputs == ("a", "c")
        assert [i.skipped for i in found.skipped] == ["no text"]
        return
    with pytest.raises(UserError, match=said):
        read_texts(file, **options)


def test_files_that_are_none(tmp_path):
    (tmp_path / "empty.csv").touch()
    (tmp_path / "blank.csv").write_bytes(b"\xef\xbb\xbf\n\n")
    (tmp_path / "x.docx").write_text("hello")
    for name, said in (
        ("empty.csv", "is empty"),
        ("blank.csv", "is empty"),
        ("x.docx", "use one of .csv"),
        ("none.csv", "does not exist"),
    ):
        with pytest.raises(UserError, match=said):
            read_texts(str(tmp_path / name))


def test_numbers_as_classes(tmp_path):
    assert read_texts(str(write_texts(tmp_path / "x.csv", [(t, f"{i % 3}.0") for i, (t, _) in enumerate(ROWS)]))
                           ).task.outputs == ("0", "1", "2")  # fmt: skip


def test_names_of_digits_stay_apart(tmp_path):
    names = ["01", "1", "1_1", "11", "1e0", "9007199254740993", "9007199254740992"]
    rows = [(f"text {i}", names[i % 7]) for i in range(35)]
    assert read_texts(str(write_texts(tmp_path / "x.csv", rows))).task.outputs == (
        "01", "1", "1_1", "1e0", "11", "9007199254740992", "9007199254740993",
    )  # fmt: skip


def test_texts_of_several_classes_are_split_by_their_share(tmp_path):
    random = np.random.default_rng(0)
    sets = [";".join(f"c{k}" for k in random.permutation(12)[:4]) for _ in range(200)]  # nearly all different
    rows = [(f"text {i}", s) for i, s in enumerate([*sets, "rare;c0"])]
    found = read_texts(str(write_texts(tmp_path / "x.csv", rows)), separator=";")
    assert found.task.outputs[-1] == "rare"
    assert 34 <= len(found.split("val")) <= 40
    assert all(found.counts("train"))


LABELS = {
    "classes": lambda i: "abc"[i % 3],
    "several classes": lambda i: ("a;b", "b", "a;c", "c")[i % 4],
    "values": lambda i: f"{i * 0.1 + 0.05:.2f}",
}


@pytest.mark.parametrize("kind", LABELS)
def test_folds_of_texts_of_every_task(kind, tmp_path):
    file = str(write_texts(tmp_path / "x.csv", [(f"text {i}", LABELS[kind](i)) for i in range(60)]))
    options = {"separator": ";"} if kind == "several classes" else {}
    parts = [read_texts(file, folds=4, fold=k, **options).split("val") for k in range(4)]
    validated = [text for part in parts for text, _ in part]
    kept = 2 if kind == "several classes" else 0  # the first text of each class is to train on: one has two
    assert len(validated) == len(set(validated)) == 60 - kept
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_few_shot_of_a_written_split(tmp_path):
    file = str(write_texts(tmp_path / "x.csv", ROWS))
    splits.write(read_texts(file).items, tmp_path / "s.csv")
    found = read_texts(file, splits=str(tmp_path / "s.csv"), max_per_class=2)
    assert found.counts("train") == [2, 2]


def test_split_is_stratified_and_repeats(tmp_path):
    file = str(write_texts(tmp_path / "x.csv", [(f"t{i}", "ab"[i % 4 == 0]) for i in range(80)]))
    a, b = (read_texts(file, test_fraction=0.25, val_fraction=0.25, split_seed=s) for s in (0, 1))
    assert [a.counts(s) for s in ("train", "val", "test")] == [[30, 10], [15, 5], [15, 5]]
    assert a == read_texts(file, test_fraction=0.25, val_fraction=0.25, split_seed=0)
    assert a.items != b.items
    few = read_texts(file, test_fraction=0.25, val_fraction=0.25, max_per_class=4)
    assert few.counts("train") == [4, 4]
    assert few.split("val") == a.split("val")


def test_copies_stay_in_one_split(tmp_path, caplog):
    caplog.set_level("INFO")
    rows = [*ROWS, *((t.upper() + " ", label) for t, label in ROWS), (ROWS[0][0], "b")]
    found = read_texts(str(write_texts(tmp_path / "x.csv", rows)))
    where = {s: {t.strip().lower() for (t,), _ in found.split(s)} for s in ("train", "val")}
    assert not where["train"] & where["val"]
    assert sum(map(sum, map(found.counts, ("train", "val")))) == 41
    assert "21 texts are copies of another" in caplog.text
    assert "1 texts have copies with another label, the first in row 1 and in row 21 (a and b)" in caplog.text


def test_a_written_split_is_kept_and_another_file_is_not_taken_for_it(tmp_path, caplog):
    file = write_texts(tmp_path / "x.csv", ROWS)
    found = read_texts(str(file), split_seed=3)
    splits.write(found.items, tmp_path / "splits.csv")
    assert read_texts(str(file), splits=str(tmp_path / "splits.csv")) == found
    write_texts(file, [*ROWS[1:], ROWS[0]])
    with pytest.raises(UserError, match=r"names 20 samples that are not in data.file"):
        read_texts(str(file), splits=str(tmp_path / "splits.csv"))


def test_labels_and_pairs(tmp_path):
    rows = [(f"first {i}", f"second {i}", "ab"[i % 2]) for i in range(20)]
    found = read_texts(str(write_texts(tmp_path / "x.csv", rows, ("one", "two", "label"))), text=["one", "two"])
    text, label = found.split("train")[0]
    assert text[0].replace("first", "second") == text[1]
    assert np.array_equal(found.targets("train")[:1], [label])
