"""`tl`: its verbs, what it says, how a shell completes it; installed from a wheel."""

import shutil
import subprocess
import sys

import pytest

from tests.commands import QUICK, REPO, refused, tl
from tl_lightning.cli.completion import words
from tl_lightning.cli.verbs import VERBS, help_text

TL = (sys.executable, "-m", "tl_lightning")


def verb(*arguments, cwd, env=None):
    return tl(*arguments, cwd=cwd, program=TL, env={"PYTHONPATH": str(REPO), **(env or {})})


def test_help_names_every_verb(tmp_path):
    for asked in ((), ("--help",), ("-h",)):
        said = verb(*asked, cwd=tmp_path)
        assert said.returncode == 0
        assert said.stdout.strip() == help_text()
    assert {"train", "advise", "rank", "predict", "evaluate", "wise", "soup", "cache", "backbones"} <= VERBS.keys()
    assert all(f"  {name} " in help_text() for name in VERBS)


def test_an_unknown_verb_names_the_nearest(tmp_path):
    refused(verb("trian", cwd=tmp_path), "there is no verb 'trian': did you mean train")
    refused(verb("predict", "rum=x", cwd=tmp_path), "there is no option 'rum' here: did you mean run?")
    refused(verb("predict", cwd=tmp_path), "run=... must be given")


def test_the_verbs_start_without_torch_and_hydra():
    code = "import sys, tl_lightning.cli.verbs as verbs; verbs.help_text()"
    code += "\nprint([m for m in ('torch', 'hydra') if m in sys.modules])"
    code += "\nfrom tl_lightning.cli.completion import words; words(['train', 'backbone=res'])"
    code += "\nprint([m for m in ('torch', 'hydra') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO).stdout
    assert said.split("\n")[:2] == ["[]", "[]"]


def test_train_predict_evaluate(photos, tmp_path):
    trained = verb("train", *QUICK, f"data.root={photos}", "hydra.run.dir=run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    said = verb("predict", "run=run", f"source={photos}/dark", cwd=tmp_path)
    lines = [line.split("\t") for line in said.stdout.splitlines()]
    assert [(len(line), line[1] in ("dark", "light"), 0.5 <= float(line[2]) <= 1) for line in lines] == [
        (3, True, True)
    ] * 12
    scores = dict(line.split() for line in verb("evaluate", "run=run", cwd=tmp_path).stdout.splitlines())
    assert {"val/accuracy", "val/loss", "val/recall/dark"} <= scores.keys()
    refused(verb("evaluate", "run=run", "split=test", cwd=tmp_path), "there are no test images")
    refused(verb("predict", "run=run", "source=gone.jpg", cwd=tmp_path), "gone.jpg does not exist")


def test_completion():
    assert words(["tr"]) == ["train"]
    assert "strategy=" in words(["train", "str"])
    assert words(["train", "strategy=lp"]) == ["strategy=lp_ft"]
    assert "backbone=resnet50" in words(["train", "backbone=resnet5"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_take_the_completion(shell, tmp_path):
    """The script is one that the shell can read, and bash completes by it."""
    script = verb("completion", shell, cwd=tmp_path).stdout
    assert "tl completion words" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    (tmp_path / "script").write_text(script)
    if shell != "bash":
        flag = "-n"
        assert (
            subprocess.run([shell, flag, str(tmp_path / "script")], capture_output=True, cwd=tmp_path).returncode == 0
        )
        return
    (tmp_path / "tl").write_text(f'#!/bin/sh\nexec {sys.executable} -m tl_lightning "$@"\n')
    (tmp_path / "tl").chmod(0o755)
    code = f"PATH={tmp_path}:$PATH; PYTHONPATH={REPO}; export PYTHONPATH; source script; "
    code += "COMP_WORDS=(tl train strategy=lp); COMP_CWORD=2; _tl; echo ${COMPREPLY[@]}"
    found = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert found.stdout.split() == ["strategy=lp_ft"], found.stderr
