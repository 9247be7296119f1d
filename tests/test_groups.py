"""All of a patient, a video or a text's author on one side of every split that is drawn."""

import logging
import shutil
from collections import Counter
from zlib import crc32

import pandas as pd
import pytest

from tests.conftest import write_image
from tests.texts import read_texts, write_texts
from tl_lightning.data.images import image_folder, manifest
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError

PATIENT = r"patient_(\d+)"


@pytest.fixture
def scans(tmp_path):
    """Two classes, the second of which fewer patients have; from two to six images of each of thirty patients."""
    root = tmp_path / "scans"
    for patient in range(30):
        label = "ill" if patient % 3 == 0 else "well"
        for i in range(2 + patient % 5):
            write_image(
                root / label / f"patient_{patient:02d}_{i}.png", 100, crc32(f"{patient} {i}".encode()), (12, 12)
            )
    return root


def read(root, **division):
    return image_folder.read(str(root), division=SplitOptions(group=PATIENT, **division))


def patients(found, split):
    return set(found.groups(split, PATIENT))


def shares(found, split):
    return {k: n / sum(found.counts(s)[i] for s in ("train", "val", "test")) for i, (k, n) in
            enumerate(zip(found.task.outputs, found.counts(split), strict=True))}  # fmt: skip


def test_no_patient_is_on_both_sides(scans, caplog):
    caplog.set_level(logging.INFO)
    found = read(scans, val_fraction=0.2, test_fraction=0.2)
    parts = [patients(found, split) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 30
    for split in ("val", "test"):
        assert all(0.1 < share < 0.3 for share in shares(found, split).values())
    assert any(m.startswith("groups    val: ") and " of 30, " in m and " of each class" in m for m in caplog.messages)
    assert read(scans, val_fraction=0.2, test_fraction=0.2).items == found.items
    assert read(scans, val_fraction=0.2, test_fraction=0.2, split_seed=1).items != found.items
    alone = image_folder.read(str(scans), division=SplitOptions(val_fraction=0.2))
    assert patients(alone, "train") & patients(alone, "val")  # the control: images drawn one by one


def test_every_patient_validates_once(scans):
    parts = [read(scans, folds=4, fold=k) for k in range(4)]
    validated = [patient for found in parts for patient in patients(found, "val")]
    assert len(validated) == len(set(validated)) == 30
    assert all(0.15 < share < 0.35 for found in parts for share in shares(found, "val").values())


def test_patients_that_share_an_image_stay_together(scans):
    """A chain of them, through copies under other names."""
    for a, b in ((1, 2), (2, 4), (4, 5)):
        shutil.copy(scans / "well" / f"patient_{a:02d}_0.png", scans / "well" / f"patient_{b:02d}_copy.png")
    for seed in range(5):
        found = read(scans, split_seed=seed)
        assert len({split for split in ("train", "val") if {"01", "02", "04", "05"} & patients(found, split)}) == 1


def test_a_column_of_a_table(scans, tmp_path):
    paths = sorted(p.relative_to(scans).as_posix() for p in scans.rglob("*.png"))
    doctor = [p.split("_")[1] for p in paths]
    frame = pd.DataFrame({"path": paths, "label": [p.split("/")[0] for p in paths], "who": doctor})
    found = manifest.read(frame, str(scans), division=SplitOptions(group="who"))
    assert not patients(found, "train") & patients(found, "val")
    rows = [(f"text {i} {i * 7}", "ab"[i % 2], f"author {i // 6}") for i in range(90)]
    file = write_texts(tmp_path / "texts.csv", rows, ("text", "label", "author"))
    texts = read_texts(file, group="author")
    authors = [set(texts.groups(split, "author")) for split in ("train", "val")]
    assert not authors[0] & authors[1] and len(authors[1]) == 3
    assert Counter(label for _, label in texts.split("val")) == {0: 9, 1: 9}


def test_given_splits_that_divide_a_patient_are_said(scans, tmp_path, caplog):
    for split, numbers in (("train", "012"), ("val", "3456")):
        for file in scans.rglob("*.png"):
            if file.stem[-1] in numbers:
                (tmp_path / "given" / split / file.parent.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, tmp_path / "given" / split / file.parent.name)
    read(tmp_path / "given")
    assert any("18 of 30 groups are in more than one split, the first 02" in m for m in caplog.messages)


@pytest.mark.parametrize(
    ("division", "said"),
    [({"group": "doctor_(.*)"}, "data.group=.* finds nothing in .*patient_.*: every path must name its group"),
     ({"group": "patient"}, "puts all samples into one group, 'patient'"),
     ({"group": "("}, "data.group=.* is no regular expression"),
     ({"group": PATIENT, "folds": 31}, "30 groups cannot be divided into 31 parts")],
)  # fmt: skip
def test_groups_that_cannot_be(division, said, scans, tmp_path):
    with pytest.raises(UserError, match=said):
        image_folder.read(str(scans), division=SplitOptions(**division))
    if "folds" not in division:
        file = write_texts(tmp_path / "texts.csv")
        with pytest.raises(UserError, match=r"data\.group=.*texts\.csv has no such column"):
            read_texts(file, group=division["group"])
