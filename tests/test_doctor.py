"""The data doctor: every planted fault is found, nothing is found on clean data, what is left out trains as it is."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tl_lightning as tl
from tests.commands import REPO, refused
from tests.commands import tl as command
from tests.planted import FAULTS, blank, contradiction, empty, leak, patient
from tests.test_copies import picture, write
from tests.texts import write_texts
from tl_lightning.config.compose import composed
from tl_lightning.config.settings import settings_of
from tl_lightning.config.words import arguments
from tl_lightning.jobs.doctor import doctor
from tl_lightning.jobs.train import train


@pytest.fixture
def clean(tmp_path):
    """Train and val of two classes that are told apart by their brightness, each image of a patient of its own."""
    root = tmp_path / "scans"
    for number in range(60):
        label, split = ("dark", "light")[number % 2], "val" if number >= 44 else "train"
        image = Image.fromarray((np.asarray(picture(number)) * 0.45 + (0, 140)[number % 2]).astype(np.uint8))
        write(root / split / label, {f"patient_{number:02d}_a": image})
    return root


IMAGES = ["trainer=cpu", "strategy=linear_probe", "data.batch_size=1", "backbone.image_size=48", "data.workers=0"]


def settings(*words, base=IMAGES, run="."):
    return settings_of(composed(arguments([*base, *words]), str(run)))


def found(*words):
    """Issues by kind."""
    return {issue.kind: issue for issue in doctor(settings(*words)).issues}


def test_nothing_is_found_where_nothing_is_wrong(clean):
    assert found(f"data.root={clean}", r"data.group=patient_(\d+)") == {}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda f: f.__qualname__.replace(".<locals>.plant", ""))
def test_what_is_planted_is_found(plant, clean):
    kind, paths = plant(clean)
    group = [r"data.group=patient_(\d+)"] if plant is patient else []
    issues = found(f"data.root={clean}", *group, "backbone.weights=null")  # files and splits alone
    assert kind in issues
    assert {f.path for f in issues[kind].samples} == paths
    assert issues[kind].remedy


def test_flipped_labels_come_first(clean):
    wrong = sorted(clean.glob("train/dark/*"))[:2] + sorted(clean.glob("val/light/*"))[:1]
    for file in wrong:
        other = "light" if file.parent.name == "dark" else "dark"
        file.rename(file.parent.parent / other / file.name)
    names = [Path(f.path).name for f in found(f"data.root={clean}")["labels"].samples[:3]]
    assert set(names) == {file.name for file in wrong}


def test_what_is_left_out_trains_as_it_is(clean, tmp_path):
    """Beside the images, and elsewhere."""
    planted = [plant(clean)[1] for plant in (blank, empty, leak("crop"), contradiction)]
    found_ = doctor(settings(f"data.root={clean}"))
    for file in (clean / "clean.csv", tmp_path / "elsewhere" / "clean.csv"):
        said = found_.write_clean(file)
        assert "left out: 1 unusable, 2 contradictions" in said and "1 blank" in said
        cell = file.read_text().splitlines()[1].partition(",")[0]
        assert Path(cell).is_absolute() == (file.parent != clean)
        again = settings(f"data.file={file}", run=tmp_path / "runs" / file.parent.name)
        assert train(again)["val/accuracy"] > 0.9
        issues = {i.kind for i in doctor(again).issues}
        assert not issues & {"blank", "unusable", "leaks", "contradictions", "copies"}
    assert all((clean / path).exists() for paths in planted for path in paths)  # nothing is deleted


def test_numbers_as_classes_stay_classes(tmp_path):
    for first, label in ((100, "1"), (200, "02"), (300, "none")):
        write(tmp_path / "n" / label, {f"{label}{k}": picture(first + k) for k in range(12)})
    found_ = doctor(settings(f"data.root={tmp_path / 'n'}", "backbone.weights=null"))
    said = found_.write_clean(tmp_path / "clean.csv")
    assert "train on it by data.file=" in said and said.endswith("task=classification data.missing=[]")
    words = said.partition("train on it by ")[2].split()
    again = doctor(settings(*words, "backbone.weights=null")).data.samples
    assert again.task.outputs == found_.data.samples.task.outputs


def test_tables_are_looked_at_too(clean, tmp_path):
    rows = "".join(
        f"{p.relative_to(clean)},{p.parent.name},{k % 7}\n" for k, p in enumerate(sorted(clean.rglob("*.jpg")))
    )
    (clean / "t.csv").write_text(f"path,label,ward\n{rows}gone.jpg,dark,1\n")
    found_ = doctor(settings(f"data.file={clean / 't.csv'}"))
    assert [i.kind for i in found_.issues] == ["unusable"]
    found_.write_clean(clean / "clean.csv")
    written = (clean / "clean.csv").read_text().splitlines()
    assert written[0] == "path,label,ward" and len(written) == 61


def test_texts_are_looked_at_too(tmp_path, model):
    pytest.importorskip("transformers")
    rows = [(f"good words number {i}", "a") if i % 2 else (f"bad words number {i}", "b") for i in range(60)]
    rows += [
        ("good  words number 1", "a"),
        ("Gr\u00c3\u00bc\u00c3\u009fe an alle", "b"),
        ("x", "a"),
        ("bad words number 2", "a"),
    ]
    file = write_texts(tmp_path / "t.csv", rows)
    base = ["backbone=text", f"backbone.name={model}", "backbone.length=16", "trainer=cpu", "strategy=linear_probe"]
    found_ = doctor(settings(f"data.file={file}", "data.batch_size=1", base=base))
    assert {"copies", "contradictions", "garbled", "short"} <= {i.kind for i in found_.issues}
    found_.write_clean(tmp_path / "clean.csv")
    again = settings(f"data.file={tmp_path / 'clean.csv'}", "data.batch_size=4", base=base, run=tmp_path / "run")
    assert {i.kind for i in doctor(again).issues}.isdisjoint({"copies", "contradictions"})
    assert train(again)["val/accuracy"] > 0.6


def test_the_page_shows_pictures_and_escapes_names(clean, tmp_path):
    name = "<img src=x onerror=alert(1)>.jpg"
    Image.new("RGB", (96, 96), "white").save(clean / "train" / "dark" / name)
    page = doctor(settings(f"data.root={clean}")).write(tmp_path / "out")
    html = page.read_text()
    assert "<img src=x" not in html and "&lt;img src=x onerror=alert(1)&gt;.jpg" in html
    assert '<img src="data:image/jpeg;base64,' in html
    facts = json.loads((tmp_path / "out" / "doctor.json").read_text())
    assert facts["issues"][0]["samples"] == [{"path": f"train/dark/{name}", "note": "grey levels vary by 0.0 of 255"}]
    assert "| train/dark/&lt;img" in (tmp_path / "out" / "doctor.md").read_text()


def test_by_command(clean, tmp_path):
    blank(clean)
    words = [f"data.root={clean}", "backbone.image_size=48", "backbone.weights=null", "trainer=cpu", "data.workers=0"]
    script = (command.__defaults__ or ("",))[0], str(REPO / "scripts" / "doctor.py")
    told = command(*words, f"out={tmp_path / 'out'}", f"write={tmp_path / 'c.csv'}", cwd=tmp_path, program=script)
    assert told.returncode == 0, told.stderr
    assert "blank           1 images that show nothing, or nearly: train/dark/flat.jpg" in told.stdout
    assert "60 images; left out: 1 blank" in told.stdout
    again = command(*words, f"write={tmp_path / 'c.csv'}", cwd=tmp_path, program=script)
    refused(again, "is there already: name another file")
    refused(command("data.root=nowhere", cwd=tmp_path, program=script), "data.root=nowhere does not exist")


def test_from_python(clean):
    blank(clean)
    found_ = tl.doctor(clean, doctor="strict", **{"backbone.image_size": 48, "trainer": "cpu", "data.workers": 0})
    assert [i.kind for i in found_.issues] == ["blank"]
    assert "images that show nothing" in found_._repr_html_() and "**blank**" in str(found_)
