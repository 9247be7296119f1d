"""Files and processes that are lost while a run goes on: one line with the path and the remedy."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tests.commands import QUICK, REPO, refused, tl
from tests.conftest import write_image
from tests.small import SMALL
from tl_lightning import compat
from tl_lightning.data.images import image_folder as folders
from tl_lightning.data.images.image_folder import Checking
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError
from tl_lightning.jobs.processes import following
from tl_lightning.jobs.train import train
from tl_lightning.store import entries


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("loss", ["deleted", "cut", "replaced by a folder"])
def test_an_image_that_is_lost_after_the_check_ends_the_run_by_name(workers, loss, configure, photos, monkeypatch):
    from tl_lightning.data.images.image_datamodule import ImageDataModule

    loader = ImageDataModule.train_dataloader
    lost = photos / "dark" / "03.png"

    def after_the_check(self):
        lost.unlink(missing_ok=True)
        if loss == "cut":
            lost.write_bytes(b"\x89PNG\r\n\x1a\n")
        elif loss != "deleted":
            lost.mkdir(exist_ok=True)
        return loader(self)

    monkeypatch.setattr(ImageDataModule, "train_dataloader", after_the_check)
    cfg = configure(
        *SMALL, "strategy=finetune_all", f"data.workers={workers}", "data.cache=off", "data.val_fraction=0.01"
    )
    with pytest.raises(UserError, match=r"^/.*dark/03.png can no longer be read .*resume=RUN$"):
        train(cfg)


def test_an_image_that_is_damaged_between_two_runs_follows_on_error(photos, tmp_path, caplog):
    from tl_lightning.data import splits

    first = folders.read(str(photos))
    splits.write(first.items, tmp_path / "s.csv")
    damaged = next(i.path for i in first.items if i.split == "train")
    (photos / damaged).write_bytes(b"")
    division = SplitOptions(splits=str(tmp_path / "s.csv"))
    again = folders.read(str(photos), division=division)
    assert [i.path for i in again.skipped] == [damaged]
    assert f"{photos / damaged} (is empty: 0 bytes)" in caplog.text
    with pytest.raises(UserError, match="is empty: 0 bytes"):
        folders.read(str(photos), division=division, checking=Checking("raise"))


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "take fewer data.workers"),
     (torch.OutOfMemoryError("CUDA out of memory"), "smaller data.batch_size"),
     (RuntimeError("Connection closed by peer [127.0.0.1]"), "another rank has died")],
)  # fmt: skip
def test_what_a_lost_process_leaves_is_one_line(error, said, tmp_path):
    with pytest.raises(UserError, match=said), following(tmp_path):
        raise error


@pytest.mark.parametrize("message", ["a bug", "Caught RuntimeError in DataLoader worker process 0.\nOriginal: a bug"])
def test_an_error_of_our_own_stays_what_it_is(message, tmp_path):
    with pytest.raises(RuntimeError, match="a bug") as raised, following(tmp_path):
        raise RuntimeError(message)
    assert not isinstance(raised.value, UserError)


def test_a_rank_that_dies_interrupts_the_job_and_not_the_program():
    from lightning.pytorch.strategies.launchers import subprocess_script

    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(KeyboardInterrupt), compat.launching(["unused"]) as dead:
        subprocess_script._launch_process_observer([child])
        child.send_signal(signal.SIGKILL)
        for _ in range(200):  # an interrupt of the main thread does not end a sleep
            time.sleep(0.1)
    assert dead == ["rank 1 ended with code -9"]


def test_a_killed_loader_process_ends_a_run_in_one_line(photos, tmp_path):
    for i in range(60):
        write_image(photos / "dark" / f"more{i}.png", 60, 1000 + i)
    words = [*QUICK[:-1], "trainer.max_epochs=300", f"data.root={photos}", "data.workers=1", "hydra.run.dir=run"]
    process = subprocess.Popen([sys.executable, str(REPO / "train.py"), *words, "callbacks.early_stopping=null"],
                               cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    for line in process.stdout:
        if line.startswith("epoch   1"):
            break
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert errors.startswith("error: a loader process has died")
    assert len(errors.strip().splitlines()) == 1


def test_a_disk_that_is_full_is_one_line(photos, tmp_path):
    import resource

    limit = 3_000_000
    words = [*QUICK, f"data.root={photos}", "strategy=finetune_all", "hydra.run.dir=run"]
    result = subprocess.run(
        [sys.executable, str(REPO / "train.py"), *words], cwd=tmp_path, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    refused(result, "best.ckpt cannot be read or written: File too large")
    assert not list((tmp_path / "run").rglob("*.part"))
    refused(tl("resume=run", cwd=tmp_path), "last.ckpt is missing there")


def test_any_row_that_has_changed_on_disk_is_noticed(configure, caplog, monkeypatch, tmp_path):
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    words = [*SMALL, "strategy=feature_extraction"]
    first = train(configure(*words, run="a"))
    for entry in entries():
        rows = np.load(entry.folder / "rows.npy", mmap_mode="r+")
        rows[len(rows) // 2, 3] += 1
        rows.flush()
    again = train(configure(*words, run="b"))
    assert caplog.text.count("1 of its rows have changed") == 3
    assert again["val/loss"] == first["val/loss"]
