"""What is said to the verbs after training that cannot be meant: one line, exit code 1, nothing half written."""

import re

import numpy as np
import pytest

import tl_lightning as tl
from tests.conftest import write_image
from tests.probe import PROBE
from tl_lightning.cli.verbs import act


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished run, its photos, and folders that are none."""
    root = tmp_path_factory.mktemp("odd")
    for k, name in enumerate(("dark", "light")):
        for i in range(12):
            write_image(root / "photos" / name / f"{i}.png", (60, 190)[k], 100 * k + i)
    tl.train(root / "photos", run_dir=root / "run", **PROBE)
    (root / "empty").mkdir()
    write_image(root / "one" / "dark" / "0.png", 60, 7)
    write_image(root / "strange" / "pink" / "0.png", 60, 7)
    (root / "texts.csv").write_text("text,label\na,b\n")
    np.save(root / "array.npy", np.zeros(3))
    return root


BAD = {
    ("evaluate",): "run=... must be given",
    ("evaluate", "run=nowhere"): "run=nowhere is no folder",
    ("evaluate", "run={home}/empty"): "holds no finished run: model.json is missing",
    ("evaluate", "run={home}/run", "spilt=test"): "did you mean split",
    ("evaluate", "run={home}/run", "split=test"): "there are no test images",
    ("evaluate", "run={home}/run", "split=holdout"): "there are no holdout images",
    ("evaluate", "run={home}/run", "threshold=precision"): "threshold=precision: say precision:0.99",
    ("evaluate", "run={home}/run", "threshold=precision:1.1"): "threshold=precision:1.1: say",
    ("evaluate", "run={home}/run", "group=("): "is no regular expression",
    ("evaluate", "run={home}/run", "group=patient"): "finds nothing in",
    ("evaluate", "run={home}/run", "data.root={home}/strange"): "holds pink, which .* does not know",
    ("evaluate", "run={home}/run", "data.root={home}/empty"): "holds no class folders with images",
    ("evaluate", "run={home}/run", "data.root={home}/texts.csv"): "none of the 1 images is there",
    ("evaluate", "run={home}/run", "data.root={home}/one", "threshold=f1"): "name no other data beside it",
    ("evaluate", "run=[{home}/run,{home}/run,{home}/run]"): "name one run, or two",
    ("evaluate", "run=[{home}/run,{home}/empty]"): "holds no finished run",
    ("predict", "run={home}/run"): "source=... must be given",
    ("predict", "run={home}/run", "source={home}/nothing.jpg"): "nothing.jpg does not exist",
    ("predict", "run={home}/run", "source={home}/*.gif"): "matches no files",
    ("predict", "run={home}/run", "source={home}/empty"): "holds no images",
    ("predict", "run={home}/run", "source={home}/array.npy"): "array.npy",
    ("predict", "run={home}/run", "source={home}/photos", "out=x.xlsx"): r"must end in \.csv",
    ("predict", "run={home}/run", "source={home}/photos", "top=0"): "top=0 must be a whole number",
    ("predict", "run={home}/run", "source={home}/photos", "top=all"): "top=all must be a whole number",
    ("predict", "run={home}/run", "source={home}/photos", "unknown=maybe"): "unknown=maybe must be true or false",
    ("predict", "run={home}/run", "source={home}/photos", "rank=best"): "rank=best is unknown",
    ("predict", "run={home}/run", "source={home}/photos", "engine=warp"): "engine=warp is unknown",
    ("predict", "run={home}/run", "source={home}/photos", "tta=spin"): "tta=spin is unknown",
    ("evaluate", "run={home}/run", "tta=spin"): "tta=spin is unknown",
    ("serve",): "run=... must be given",
    ("serve", "run={home}/empty"): "holds no finished run",
    ("serve", "run={home}/run", "prot=80"): "did you mean port",
    ("serve", "run={home}/run", "port=web"): "port=web must be a number",
    ("serve", "run={home}/run", "port=80.5"): "port=80.5 must be a whole number",
    ("serve", "run={home}/run", "port=70000"): "port=70000 must be a whole number of at least 0, at most 65535",
    ("serve", "run={home}/run", "host=300.1.1.1"): r"host=300.1.1.1 port=8000 cannot be had",
    ("serve", "run={home}/run", "port=0", "max_mb=0"): "max_mb=0 must be a number",
    ("serve", "run={home}/run", "port=0", "max_mb=nan"): "max_mb=nan must be a number",
    ("serve", "run={home}/run", "port=0", "max_megapixels=few"): "max_megapixels=few must be a number",
    ("serve", "run={home}/run", "port=0", "unknown=perhaps"): "unknown=perhaps must be true or false",
    ("serve", "run={home}/run", "port=0", "engine=warp"): "engine=warp is unknown",
    ("report", "run=[{home}/run,{home}/run,{home}/run]"): "name one run, or two",
    ("report", "run=[{home}/run,{home}/empty]"): "holds no finished run",
    ("export", "run={home}/run", "format=tflite"): "format=tflite is unknown",
    ("export", "run={home}/empty"): "holds no finished run",
    ("report", "run={home}/empty"): "holds no finished run",
    ("report", "run={home}/run", "outt=x"): "did you mean out",
    ("card", "run={home}/empty"): "holds no finished run",
    ("add_class", "run={home}/run"): "data.root=.* must be given",
    ("add_class", "run={home}/run", "data.root={home}/empty", "out={home}/new"): "holds no class folders",
    ("add_class", "run={home}/run", "data.root={home}/one", "out={home}/run"): "already holds a run",
}


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_words_that_cannot_be_meant(words, home, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path for path in home.rglob("*") if path.name != "features.safetensors"}
    capsys.readouterr()
    verb, *said = (word.format(home=home) for word in words)
    with pytest.raises(SystemExit) as ended:
        act(verb, said)
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 1
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert re.search(BAD[words], lines[0]), lines[0]
    assert {path for path in home.rglob("*") if path.name != "features.safetensors"} == before
    assert list(tmp_path.iterdir()) == []


def test_one_image_of_one_class_is_enough_to_evaluate(home, tmp_path):
    found = tl.load(home / "run").evaluate(data=home / "one", out=tmp_path)
    assert found["one/accuracy"] == 1
    assert [row["support"] for row in found.findings.tables["classes"]] == [1, 0]
