"""The command line as a user types it: true processes, their output, their exit code."""

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


def test_bad_words_name_the_nearest(photos, tmp_path):
    root = f"data.root={photos}"
    refused(tl("backbone=resnet5", root, cwd=tmp_path), "no backbone 'resnet5'", "did you mean", "resnet50")
    refused(tl("strategy=finetune", root, cwd=tmp_path), "no strategy 'finetune'", "finetune_top")
    refused(tl("-m", "strategy=lp_ft,lp_tf", root, cwd=tmp_path), "no strategy 'lp_tf'", "lp_ft")
    refused(tl("data.rot=x", cwd=tmp_path), "Could not override 'data.rot'", "--help")
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
    refused(tl(*quick, "head.dropout=2", cwd=tmp_path), "dropout")


def test_debug_shows_the_traceback(tmp_path):
    result = tl("data.root=nowhere", "debug=true", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "UserError" in result.stderr


def test_resume_continues_in_the_same_folder(photos, tmp_path):
    first = tl(*QUICK, f"data.root={photos}", "strategy=finetune_top", cwd=tmp_path)
    run = Path(first.stdout.strip().splitlines()[-1])
    splits = (run / "splits.csv").read_text()
    write_image(photos / "dark" / "new.png", 50, 7)  # does not join a run that has begun
    second = tl(f"resume={run}", "trainer.max_epochs=3", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout.strip().splitlines()[-1] == str(run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["epochs"] == 3
    assert metrics["params/trainable"] < metrics["params/total"]  # finetune_top, as the run began
    assert (run / "splits.csv").read_text() == splits
    epochs = [line.split(",")[0] for line in (run / "metrics.csv").read_text().splitlines()]
    assert "0" in "".join(epochs)
    assert (run / "metrics.csv").read_text().count("\n") > 6  # rows of both parts
    refused(tl(f"resume={run}", cwd=tmp_path), "has trained its 3 epochs", "raise trainer.max_epochs above 3")
    refused(tl(f"resume={run}", "strategy=lp_ft", "trainer.max_epochs=9", cwd=tmp_path), "keeps its strategy")
    (run / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    refused(tl(f"resume={run}", "trainer.max_epochs=9", cwd=tmp_path), "last.ckpt cannot be read")
    refused(tl(f"resume={tmp_path}", cwd=tmp_path), "cannot be resumed: config.yaml is missing")


def test_a_run_stopped_by_hand_says_how_to_go_on(photos, tmp_path):
    command = [sys.executable, str(REPO / "train.py"), *QUICK, f"data.root={photos}", "trainer.max_epochs=500",
               "hydra.run.dir=stopped", "callbacks.early_stopping=null"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoint, deadline = tmp_path / "stopped" / "checkpoints" / "last.ckpt", time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped by hand; go on with: python train.py resume=" in errors
    assert "Traceback" not in errors
    epochs = 1 + max(int(line.split()[1]) for line in _.splitlines() if line.startswith("epoch"))
    resumed = tl("resume=stopped", f"trainer.max_epochs={epochs + 2}", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr


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
    """Each job's ranks read that job's configuration, and the jobs' processes do not disturb each other."""
    options = [*QUICK[:-2], "trainer.max_epochs=1", f"data.root={photos}", *DDP]
    result = tl("-m", *options, "optimizer.lr=1e-3,1e-4", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = sorted((tmp_path / "multirun").glob("*/*/*/metrics.json"))
    assert [p.parent.name for p in jobs] == ["0", "1"]
    assert len(list((tmp_path / "multirun").glob("*/*"))) == 1  # no second sweep beside it


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
