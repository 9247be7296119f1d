"""docs/extending.md, run as it is printed: its module, its commands, its Python."""

import re
import shlex
import sys
from importlib.metadata import EntryPoint

import pytest

import tl_lightning as tl
from tests.commands import REPO, refused
from tests.commands import tl as command
from tl_lightning import targets
from tl_lightning.build import build
from tl_lightning.config.compose import composed
from tl_lightning.config.settings import settings_of
from tl_lightning.config.words import arguments
from tl_lightning.jobs.train import train
from tl_lightning.options import options

TEXT = (REPO / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)
COMMANDS = re.findall(r"```\ntl train (.*?)\n```", TEXT)
QUICK = ["backbone.image_size=32", "data.batch_size=4", "data.workers=0", "trainer=cpu", "trainer.max_epochs=2"]
# what the document's readers know anyhow
KNOWN = "from dataclasses import dataclass\nfrom lightning.pytorch.loggers import Logger\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The document's module, as a file that can be imported."""
    (tmp_path / "my_package.py").write_text("import tl_lightning\n" + KNOWN + "\n".join(BLOCKS))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_package", None)


def test_each_part_is_short():
    assert len(BLOCKS) == 7
    assert [len(block.splitlines()) <= 15 for block in BLOCKS] == [True] * len(BLOCKS)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_is_a_run(words, package, photos, capsys):
    """Composed from its words as the command line does; the first one is typed, below."""
    given = shlex.split(words.replace("data.root=photos", f"data.root={photos}"))
    own = {word.partition(".")[0] for word in given if "._target_" in word}
    quick = [w for w in QUICK if w.partition(".")[0] not in own]
    metrics = train(settings_of(composed(arguments([*given, *quick]), str(package / "run"))))
    assert metrics["epochs"] == 2
    assert ("val/kappa" in metrics) is ("with_kappa" in words)
    assert bool(re.search(r"step \d+: [01]\.\d{3}", capsys.readouterr().out)) is ("Printed" in words)
    without = [w for w in given if not w.startswith("allow=")]
    with pytest.raises(tl.UserError, match=r"allow=\[my_package\]"):
        build(settings_of(composed(arguments([*without, *quick]), str(package / "run"))))


def test_a_command_as_it_is_typed(package, photos):
    result = command(*shlex.split(COMMANDS[0]), *QUICK[1:], cwd=package, env={"PYTHONPATH": str(package)})
    assert result.returncode == 0, result.stderr
    assert "backbone  my_package.net" in result.stdout


def test_what_nobody_admitted_is_refused(package, photos):
    words = [w for w in shlex.split(COMMANDS[0]) if not w.startswith("allow=")]
    refused(command(*words, cwd=package, env={"PYTHONPATH": str(package)}), "my_package.net", "allow=[my_package]")


def test_a_run_of_own_classes_is_loaded_by_who_admits_them(package, photos):
    words = {"backbone": {"_target_": "my_package.net"}, "strategy": {"_target_": "my_package.EveryOther"},
             "head": {"_target_": "my_package.narrow"}, "task": {"_target_": "my_package.with_kappa"}}  # fmt: skip
    run = tl.train(photos, **words, allow=["my_package"], run_dir=package / "run", trainer={"max_epochs": 1})
    assert run.evaluate()["val/kappa"] == pytest.approx(run.metrics["val/kappa"], abs=1e-6)
    assert "every" not in run._repr_html_()
    with pytest.raises(tl.UserError, match=r"allow=\[my_package\]"):
        _ = tl.load(run.path).model
    assert (
        tl.load(run.path, allow=["my_package"]).predict(photos / "dark").answers == run.predict(photos / "dark").answers
    )


def test_objects_from_python(package, photos, capsys):
    import my_package

    run = tl.train(photos, backbone=my_package.net(), strategy=my_package.EveryOther(), head=my_package.narrow,
                   logger=[my_package.Printed()], trainer={"max_epochs": 1}, run_dir=package / "run")  # fmt: skip
    assert re.search(r"step \d+: [01]\.\d{3}", capsys.readouterr().out)
    again = tl.load(run.path, backbone=my_package.net(), head=my_package.narrow, allow=["my_package"])
    assert (again.predict(photos).probabilities == run.predict(photos).probabilities).all()
    with pytest.raises(tl.UserError, match=r"trained with a backbone of your own.*load\(run, backbone="):
        _ = tl.load(run.path).model


def test_entry_points_are_options(package, monkeypatch):
    points = [EntryPoint("tiny", "my_package:net", "tl_lightning.backbones"),
              EntryPoint("every_other", "my_package:EveryOther", "tl_lightning.strategies"),
              EntryPoint("narrow", "my_package:narrow", "tl_lightning.heads")]  # fmt: skip
    monkeypatch.setattr(targets, "entry_points", lambda group: [p for p in points if p.group == group])
    assert "tiny" in options("backbone")
    assert "every_other" in tl.strategies()
    values = composed(["backbone=tiny", "backbone.width=4", "strategy=every_other", "head=narrow", "data.root=x"])
    assert targets.build(values["backbone"]).feature_dim == 8
    assert targets.build(values["strategy"]).speed == 0.1
    assert targets.build(values["head"])(8, __import__("torch").zeros(3))[2].out_features == 3
