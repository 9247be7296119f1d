"""The command line as a user types it: true processes, their output, their exit code."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import write_image
from tl_lightning.runs import cli

REPO = Path(__file__).parents[1]
QUICK = ["backbone=mobilenet_v2", "backbone.weights=null", "backbone.image_size=32", "data.batch_size=4",
         "data.workers=0", "trainer=cpu", "trainer.max_epochs=1"]  # fmt: skip


def tl(*arguments, cwd, program=(sys.executable, str(REPO / "train.py")), env=None):
    return subprocess.run(
        [*program, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, env={**os.environ, **(env or {})}
    )


def refused(result, *fragments):
    assert result.returncode == 1, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for fragment in fragments:
        assert fragment in lines[0]


def test_asking_for_the_configuration_imports_no_torch(tmp_path):
    """`--cfg job` in the very process that answers it, which then lists what it imported."""
    code = (
        "import sys, atexit; sys.argv = ['train.py', '--cfg', 'job', 'data.root=x'];"
        "atexit.register(lambda: print('torch' in sys.modules, 'lightning' in sys.modules, 'hydra' in sys.modules));"
        "from tl_lightning.runs.cli import train; train()"
    )
    result = tl("-c", code, cwd=tmp_path, program=(sys.executable,))
    assert "strategy:" in result.stdout
    assert result.stdout.splitlines()[-1] == "False False True"


def test_help_lists_groups_and_options(tmp_path):
    result = tl("--help", cwd=tmp_path)
    for text in ("backbone: convnext_tiny", "strategy: early_features", "`trainer.strategy`", "data.root=photos"):
        assert text in result.stdout


def test_a_run_ends_with_its_folder(photos, tmp_path):
    result = tl(*QUICK, f"data.root={photos}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = Path(result.stdout.strip().splitlines()[-1])
    assert run.parent.parent == tmp_path / "outputs"
    assert "random weights: nothing is transferred" in result.stdout
    assert (run / ".hydra" / "overrides.yaml").is_file()
    assert (run / "train.log").is_file()
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 1
    assert result.stderr == ""


def test_a_sweep_fills_a_folder_per_job(photos, tmp_path):
    result = tl(*QUICK, f"data.root={photos}", "-m", "backbone=resnet18,mobilenet_v2",
                "strategy=feature_extraction,finetune_top", cwd=tmp_path)  # fmt: skip
    assert result.returncode == 0, result.stderr
    jobs = sorted((tmp_path / "multirun").glob("*/*/*/metrics.json"))
    assert [p.parent.name for p in jobs] == ["0", "1", "2", "3"]
    chosen = {json.loads((p.parent / "model.json").read_text())["backbone"]["name"] for p in jobs}
    assert chosen == {"resnet18", "mobilenet_v2"}
    assert [(p.parent / "tensorboard").is_dir() for p in jobs] == [True] * 4
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line][
        -4:
    ]
    for number, (backbone, strategy, accuracy, *_) in enumerate(table):
        overrides = (jobs[number].parent / ".hydra" / "overrides.yaml").read_text()
        assert f"backbone={backbone}\n" in overrides
        assert f"strategy={strategy}\n" in overrides
        assert float(accuracy) == round(json.loads(jobs[number].read_text())["val/accuracy"], 4)


def test_bad_words_name_the_nearest(photos, tmp_path):
    root = f"data.root={photos}"
    refused(tl("backbone=resnet5", root, cwd=tmp_path), "no backbone 'resnet5'", "did you mean", "resnet50")
    refused(tl("strategy=finetune", root, cwd=tmp_path), "no strategy 'finetune'", "finetune_top")
    refused(tl("-m", "strategy=lp_ft,lp_tf", root, cwd=tmp_path), "no strategy 'lp_tf'", "lp_ft")
    refused(tl("data.rot=x", cwd=tmp_path), "there is no option 'data.rot'", "did you mean data.root", "--cfg job")
    refused(tl("lr=1", cwd=tmp_path), "there is no option 'lr': did you mean optimizer.lr")
    refused(tl("strategy.stages=2", cwd=tmp_path), "it belongs to strategy=finetune_top")
    refused(tl("+startegy=lp_ft", cwd=tmp_path), "there is no option 'startegy': did you mean strategy")
    refused(tl("data=image_folder", cwd=tmp_path), "data.root")


def test_bad_folders_and_values(photos, tmp_path):
    quick = [*QUICK, f"data.root={photos}"]
    refused(tl("data.root=nowhere", cwd=tmp_path), "data.root=nowhere does not exist")
    refused(tl(*quick, "strategy=finetune_top", "strategy.stages=9", cwd=tmp_path), "strategy.stages=9", "5 stages")
    refused(tl(*quick, "strategy=early_features", "strategy.upto=layer2", cwd=tmp_path), "no stage 'layer2'", "stage2")
    refused(tl(*quick, "strategy=gradual_unfreeze", cwd=tmp_path), "max_epochs=1 is too short")
    refused(tl(*quick, "data.batch_size=999", cwd=tmp_path), "data.batch_size=999: there are 20 training images")
    refused(tl(*quick, "backbone.weights=gone.pth", cwd=tmp_path), "weights file gone.pth does not exist")
    refused(tl(*quick, "trainer.max_epochs=two", cwd=tmp_path), "trainer.max_epochs")
    download = tl(*quick, "backbone.weights=DEFAULT", "hydra.run.dir=refused", cwd=tmp_path)
    download.stderr = download.stderr.strip().splitlines()[-1]  # torch says first what it downloads
    refused(download, "cannot be downloaded", "put the file at", "backbone.weights=null")
    assert not (tmp_path / "refused").exists()  # a refused run leaves no folder
    refused(tl(*quick, "head.dropout=2", cwd=tmp_path), "head: dropout probability")
    refused(tl(*quick, "trainer.precision=fp17", cwd=tmp_path), "trainer:", "fp17")
    refused(tl(*quick, "backbone.name=resnet50x", cwd=tmp_path), "resnet50x")
    refused(tl(*quick, "optimizer.lr=abc", cwd=tmp_path), "optimizer.lr=abc must be a number")


def test_a_folder_of_any_name(photos, tmp_path):
    """Spaces, brackets and dollars in paths and class names, as typed in a shell."""
    odd = photos.rename(tmp_path / "my photos (1) [é]")
    (odd / "dark").rename(odd / "$5_$10, d'ark")
    result = tl(*QUICK, "data.root=my photos (1) [é]", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "$5_$10, d'ark" in (tmp_path / result.stdout.strip().splitlines()[-1] / "metrics.json").read_text()


def test_a_refused_job_does_not_end_a_sweep(photos, tmp_path):
    result = tl("-m", *QUICK, f"data.root={photos}", "strategy=gradual_unfreeze,feature_extraction", cwd=tmp_path)
    assert result.returncode == 1
    assert "max_epochs=1 is too short" in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert [p.parent.name for p in (tmp_path / "multirun").glob("*/*/*/metrics.json")] == ["1"]


def test_debug_shows_the_traceback(tmp_path):
    result = tl("data.root=nowhere", "debug=true", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "UserError" in result.stderr


def validated_epochs(run):
    with (run / "metrics.csv").open() as file:
        return [int(r["epoch"]) for r in csv.DictReader(file) if r["val/accuracy"]]


def test_resume_continues_in_the_same_folder(photos, tmp_path):
    quick = [*QUICK, f"data.root={photos}", "strategy=feature_extraction", "callbacks.early_stopping=null"]
    first = tl(*quick, "trainer.max_epochs=4", "hydra.run.dir=run (1)", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    before = tmp_path / "run (1)"
    assert str(before) == first.stdout.strip().splitlines()[-1]
    splits, words = (before / "splits.csv").read_text(), (before / ".hydra" / "overrides.yaml").read_text()
    write_image(photos / "dark" / "new.png", 50, 7)  # does not join a run that has begun
    run = before.rename(tmp_path / "moved")
    second = tl("resume=moved", "trainer.max_epochs=6", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout.strip().splitlines()[-1] == "moved"
    assert not before.exists()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["epochs"] == 6
    assert metrics["params/trainable"] < metrics["params/total"]  # feature_extraction, as the run began
    assert (run / "splits.csv").read_text() == splits
    assert (run / ".hydra" / "overrides.yaml").read_text() == words
    assert validated_epochs(run) == [0, 1, 2, 3, 4, 5]
    refused(tl("resume=moved", cwd=tmp_path), "has trained its 6 epochs", "raise trainer.max_epochs above 6")
    for change in ("strategy=lp_ft", "optimizer.lr=1", "data.batch_size=2"):
        refused(tl("resume=moved", change, "trainer.max_epochs=9", cwd=tmp_path), "a resumed run keeps its")
    (run / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    refused(tl("resume=moved", "trainer.max_epochs=9", cwd=tmp_path), "last.ckpt cannot be read")
    refused(tl("resume=mooved", cwd=tmp_path), "resume=mooved cannot be resumed: config.yaml is missing")
    assert not (tmp_path / "mooved").exists()


def interrupted(arguments, cwd, when):
    """Ctrl-C once `when` exists: exit code, stdout, stderr. Background shells ignore SIGINT, which is undone here."""
    listen = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    command = [sys.executable, str(REPO / "train.py"), *arguments]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **listen)
    deadline = time.monotonic() + 120
    while not list(cwd.glob(when)) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


LONG = [*QUICK, "trainer.max_epochs=500", "callbacks.early_stopping=null"]


def test_a_run_stopped_by_hand_says_how_to_go_on(photos, tmp_path):
    arguments = [*LONG, f"data.root={photos}", "hydra.run.dir=stopped"]
    code, output, errors = interrupted(arguments, tmp_path, "stopped/checkpoints/last.ckpt")
    assert code == 1
    assert errors.startswith("stopped by hand; go on with: python train.py resume=")
    epochs = 1 + max(int(line.split()[1]) for line in output.splitlines() if line.startswith("epoch"))
    resumed = tl("resume=stopped", f"trainer.max_epochs={epochs + 2}", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr


def test_a_sweep_stopped_by_hand_stops(photos, tmp_path):
    arguments = ["-m", *LONG, f"data.root={photos}", "seed=0,1"]
    code, _, errors = interrupted(arguments, tmp_path, "multirun/*/*/0/checkpoints/last.ckpt")
    assert code == 1
    assert errors.startswith("stopped by hand; go on with")
    assert not list(tmp_path.glob("multirun/*/*/1"))


DDP = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def test_ddp_from_the_command_line(photos, tmp_path):
    """Two processes, one run: one folder, one set of files; and resumed on two processes again."""
    ddp = [*QUICK[:-2], f"data.root={photos}", *DDP, "strategy=gradual_unfreeze", "hydra.run.dir=both"]
    result = tl(*ddp, "trainer.max_epochs=6", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads((tmp_path / "both" / "metrics.json").read_text())["epochs"] == 6
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["both", "photos"]
    assert result.stdout.count("val       accuracy") == 1
    again = tl("resume=both", "trainer.max_epochs=7", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads((tmp_path / "both" / "metrics.json").read_text())["epochs"] == 7


def test_ddp_inside_a_sweep(photos, tmp_path):
    """Each job's ranks read that job's configuration, and the jobs' processes do not disturb each other.

    All ranks of all jobs train on the rows that the first rank computed.
    """
    options = [*QUICK[:-2], "trainer.max_epochs=1", f"data.root={photos}", *DDP, "strategy=feature_extraction"]
    own = {"TL_CACHE": str(tmp_path / "cache")}
    result = tl("-m", *options, "optimizer.lr=1e-3,1e-4", cwd=tmp_path, env=own)
    assert result.returncode == 0, result.stdout + result.stderr
    said = [line for line in result.stdout.splitlines() if "44 rows" in line]
    assert [" computed at " in line for line in said] == [True, False]
    jobs = sorted((tmp_path / "multirun").glob("*/*/*/metrics.json"))
    assert [p.parent.name for p in jobs] == ["0", "1"]
    assert len(list((tmp_path / "multirun").glob("*/*"))) == 1  # no second sweep beside it


PRETRAIN = (sys.executable, str(REPO / "scripts" / "pretrain.py"))
DRAWN = [
    "data.systems=8",
    "data.materials=4",
    "data.views=32",
    "data.batch_size=8",
    "data.sizes=[32,40]",
    "trainer.accelerator=cpu",
]


def test_pretraining_on_two_processes_and_training_from_its_file(photos, tmp_path):
    options = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=2", "hydra.run.dir=drawn"]
    result = tl(*DRAWN, *options, cwd=tmp_path, program=PRETRAIN)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [line.split()[:2] for line in result.stdout.splitlines() if line.startswith("epoch")] == [
        ["epoch", "0"],
        ["epoch", "1"],
    ]
    file = result.stdout.strip().splitlines()[-1]
    assert Path(file) == tmp_path / "drawn" / "weights.safetensors"
    assert list((tmp_path / "drawn" / "tensorboard").iterdir())
    after = tl(*QUICK[3:], "backbone=mobilenet_v2", f"backbone.weights={file}", f"data.root={photos}", cwd=tmp_path)
    assert after.returncode == 0, after.stderr
    assert "40 px" in after.stdout  # those that the weights were last trained on
    rates = [line.split("│")[4].strip() for line in after.stdout.splitlines() if "│ stage" in line]
    assert rates == ["1.0e-03"] * 4  # drawn images taught nothing that full rates would destroy
    assert "forgetting" not in after.stdout


def test_pretraining_on_bad_input(tmp_path):
    def refuse(*words):
        return tl(*DRAWN, "trainer.devices=1", *words, cwd=tmp_path, program=PRETRAIN)

    refused(refuse("data.late=2"), "data.late=2")
    refused(refuse("data.views=4"), "data.views=4", "data.batch_size=8")
    refused(refuse("model.name=nothing"), "nothing")
    refused(refuse("resume=nowhere"), "resume=nowhere cannot be resumed")


def test_arguments_and_choices():
    assert cli.arguments(["data.root=x"]) == ["data.root=x", "data=image_folder"]
    assert cli.arguments(["data.root=x", "data=digits"]) == ["data.root=x", "data=digits"]
    assert cli.arguments(["backbone=vgg16"]) == ["backbone=vgg16"]
    cli.check_choices(["backbone=resnet18,vgg16", "experiment=null", "data.root=a=b", "-m", "seed=3"])


def test_console_script_finds_its_configuration_in_an_installed_wheel(tmp_path):
    """conf/ travels inside the wheel."""
    import zipfile

    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(REPO),
    ]
    try:
        __import__("hatchling")
    except ImportError:
        pytest.skip("hatchling is not installed here")
    subprocess.run(build, check=True, timeout=120)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert "tl_lightning/conf/train.yaml" in names
    assert "tl_lightning/conf/backbone/resnet50.yaml" in names
    assert not any(n.startswith("tests/") for n in names)
