"""`tl`: its verbs, what it says, how a shell completes it; installed from a wheel."""

import re
import shutil
import subprocess
import sys

import pytest

import tl_lightning as library
from tests.commands import REPO, refused, tl
from tl_lightning.cli.completion import words
from tl_lightning.cli.verb_help import OPTIONS
from tl_lightning.cli.verbs import VERBS, act, help_text

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


def test_predict_and_evaluate(photos, tmp_path, capsys):
    words = {"backbone.image_size": 32, "data.batch_size": 4, "data.workers": 0, "strategy": "linear_probe"}
    run = library.train(photos, run_dir=tmp_path / "run", **words)
    capsys.readouterr()
    act("predict", [f"run={run.path}", f"source={photos}/dark"])
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert head.split("\t") == ["image", "class", "probability", "margin"]
    assert [(line.split("\t")[1], 0.5 <= float(line.split("\t")[2]) <= 1) for line in lines] == [("dark", True)] * 12
    assert last.startswith(f"{run.path}/predictions.csv: 12 rows")
    act("evaluate", [f"run={run.path}"])
    scores = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("val/"))
    assert float(scores["val/accuracy"]) == pytest.approx(run.metrics["val/accuracy"], abs=1e-4)
    for verb, more, said in (("evaluate", "split=test", "there are no test images"),
                             ("predict", "source=gone.jpg", "gone.jpg does not exist")):  # fmt: skip
        with pytest.raises(SystemExit):
            act(verb, [f"run={run.path}", more])
        assert said in capsys.readouterr().err


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


@pytest.mark.parametrize("verb", [v for v, (module, *_) in VERBS.items() if module.endswith("tools")])
def test_help_names_every_word_that_a_verb_takes(verb, capsys):
    """As the verb itself says when it is told a word that it does not know."""
    act(verb, ["--help"])
    said = capsys.readouterr().out
    assert said.startswith(f"tl {verb}: ")
    if verb in ("advise", "doctor", "rank", "backbones", "leaderboard"):  # which take others, too
        return
    with pytest.raises(SystemExit):
        act(verb, ["zzz=1"])
    error = capsys.readouterr().err
    known = set(error.partition("known: ")[2].strip().split(", "))
    assert known == set(OPTIONS[verb])
    assert all(re.search(rf"^  {re.escape(word)} ", said, re.M) for word in known)


@pytest.mark.parametrize(
    "text", [r"patient_(\d+)", "C:\\photos\\", r'a"b\"c', "\\\\", "plain", "with space, and comma=x"]
)
def test_texts_are_taken_letter_by_letter(text):
    from tl_lightning.config.compose import composed, merged
    from tl_lightning.config.words import arguments

    assert composed(arguments(merged({"data.root": "x", "data.group": text})))["data"]["group"] == text
