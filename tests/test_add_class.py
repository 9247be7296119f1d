"""A class that is added afterwards: without the old images, and as good as a head that had seen all of them."""

import json
import shutil

import pytest
from safetensors.torch import load_file

import tl_lightning as tl
from tests.conftest import write_image
from tests.probe import PROBE
from tests.texts import write_texts
from tests.zoo import WORDS
from tl_lightning.cli.verbs import act


@pytest.fixture
def grey(tmp_path):
    for i in range(20):
        write_image(tmp_path / "new" / "grey" / f"{i}.png", 125, 900 + i)
    return tmp_path / "new"


def test_a_class_is_added_without_the_old_images(photos, grey, tmp_path, capsys):
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    run.write_predictions(grey, unknown=True)  # keeps the features
    shutil.move(photos, tmp_path / "away")
    capsys.readouterr()
    act("add_class", [f"run={run.path}", f"data.root={grey}", f"out={tmp_path}/more"])
    said = capsys.readouterr().out
    assert "with grey; 4 validation samples of before: right 1.0000 before, 1.0000 after" in said
    assert "4 of the new ones, held back: right 1.0000" in said
    more = tl.load(tmp_path / "more")
    assert more.model.task.outputs == ("dark", "light", "grey")  # the places of old classes stay
    assert more.metrics["old/after"] == 1
    for folder, name in ((grey, "grey"), (tmp_path / "away" / "dark", "dark"), (tmp_path / "away" / "light", "light")):
        answers = more.predict(folder).answers
        assert answers.count(name) >= len(answers) - 1
    # the network is the old one, and so is the old run
    old, new = (load_file(r.path / "model.safetensors") for r in (run, more))
    assert all((old[k] == new[k]).all() for k in old if not k.startswith("head."))
    assert run.model.task.outputs == ("dark", "light")
    # and further ones
    for i in range(10):
        write_image(tmp_path / "newer" / "white" / f"{i}.png", 225, i)
    assert tl.load(more.path).add_class(tmp_path / "newer").names == ["white"]
    assert tl.load(tmp_path / "more-extended").model.task.outputs == ("dark", "light", "grey", "white")


def test_more_images_of_old_classes(photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    found = run.add_class(photos, tmp_path / "more")
    assert (found.names, found.before, found.after, found.added) == ([], 1.0, 1.0, 1.0)
    assert json.loads((found.path / "model.json").read_text())["classes"] == ["dark", "light"]


def test_what_cannot_be_extended(photos, grey, model, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    with pytest.raises(tl.UserError, match="already holds a run"):
        run.add_class(grey, run.path)
    with pytest.raises(tl.UserError, match="does not exist or is no folder"):
        run.add_class(tmp_path / "none", tmp_path / "more")
    deep = tl.train(photos, run_dir=tmp_path / "deep", **{**PROBE, "strategy": "feature_extraction"}, head="mlp",
                    **{"trainer.max_epochs": 1})  # fmt: skip
    with pytest.raises(tl.UserError, match="only a linear head can be solved"):
        deep.add_class(grey, tmp_path / "more")
    assert not (tmp_path / "more").exists()
    pytest.importorskip("transformers")
    rows = [(f"good {WORDS[i % 20]} {WORDS[i // 20]}", i / 7) for i in range(30)]
    file = write_texts(tmp_path / "texts.csv", rows, ("text", "score"))
    options = {"backbone.name": str(model), "backbone.length": 16, "data.batch_size": 4, "data.label": "score"}
    values = tl.train(file, run_dir=tmp_path / "values", backbone="text", strategy="linear_probe", **options)
    with pytest.raises(tl.UserError, match=r"where every sample has one: .* is asked for more"):
        values.add_class(file, tmp_path / "more")
    assert not (tmp_path / "more").exists()
