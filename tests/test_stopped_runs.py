"""Runs that are stopped, resumed, or shared among processes, from the command line."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest

from tests.commands import QUICK, REPO, refused, tl
from tests.conftest import write_image


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
    (run / "checkpoints" / "previous.ckpt").write_bytes(b"damaged")
    refused(tl("resume=moved", "trainer.max_epochs=9", cwd=tmp_path), "last.ckpt cannot be read")
    refused(tl("resume=mooved", cwd=tmp_path), "resume=mooved cannot be resumed: config.yaml is missing")
    assert not (tmp_path / "mooved").exists()


def interrupted(arguments, cwd, when, by=signal.SIGINT):
    """Ctrl-C once `when` exists: exit code, stdout, stderr. Background shells ignore SIGINT, which is undone here."""
    listen = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    command = [sys.executable, str(REPO / "train.py"), *arguments]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **listen)
    deadline = time.monotonic() + 120
    while not list(cwd.glob(when)) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(by)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


LONG = [*QUICK, "trainer.max_epochs=500", "callbacks.early_stopping=null"]


def test_a_run_stopped_by_hand_says_how_to_go_on(photos, tmp_path):
    arguments = [*LONG, f"data.root={photos}", "hydra.run.dir=stopped"]
    code, output, errors = interrupted(arguments, tmp_path, "stopped/checkpoints/last.ckpt")
    assert code == 130
    assert errors.startswith("stopped by hand; go on with: python train.py resume=")
    epochs = 1 + max(int(line.split()[1]) for line in output.splitlines() if line.startswith("epoch"))
    resumed = tl("resume=stopped", f"trainer.max_epochs={epochs + 2}", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP])
def test_a_scheduler_or_a_closed_terminal_stops_a_run_as_ctrl_c_does(by, photos, tmp_path):
    arguments = [*LONG, f"data.root={photos}", "hydra.run.dir=stopped"]
    code, _, errors = interrupted(arguments, tmp_path, "stopped/checkpoints/last.ckpt", by)
    assert code == 128 + by
    assert errors.startswith(f"stopped by {by.name}; go on with: python train.py resume=")


def test_a_sweep_stopped_by_hand_stops(photos, tmp_path):
    arguments = ["-m", *LONG, f"data.root={photos}", "seed=0,1"]
    code, _, errors = interrupted(arguments, tmp_path, "multirun/*/*/0/checkpoints/last.ckpt")
    assert code == 130
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
