"""Jobs in processes of a launcher, ranks of torchrun, and what a command will take before it is run."""

import csv
import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.commands import QUICK, REPO, refused, tl
from tl_lightning import machine
from tl_lightning.config.product import combinations, cost_words, feature_words
from tl_lightning.errors import UserError
from tl_lightning.jobs import price, processes

SCORES = ("optimizer.lr", "runs", "val/accuracy", "val/loss", "best/epoch")


def two_jobs(photos):
    return [*QUICK, f"data.root={photos}", "strategy=feature_extraction", "optimizer.lr=1e-3,1e-2",
            "logger=csv", "report=false"]  # fmt: skip


def board(sweep):
    with (sweep / "leaderboard.csv").open() as file:
        return sorted(tuple(row[name] for name in SCORES) for row in csv.DictReader(file))


def test_launchers_give_the_same_leaderboard(photos, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    boards = {}
    for launcher in ("basic", "joblib", "submitit_local"):
        words = [*two_jobs(photos), f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}"]
        result = tl("-m", *words, cwd=tmp_path, fork=False)
        assert result.returncode == 0, result.stderr
        boards[launcher] = board(tmp_path / launcher)
        if launcher == "joblib":  # threads are shared out, and each job's lines are in its own log
            log = (tmp_path / launcher / "1" / "train.log").read_text()
            assert f"cpu, {max(1, machine.cores() // 2)} thread" in log
            assert "epoch   0" in log and "epoch   0" not in result.stdout and "2 of 2" in result.stdout
    assert boards["joblib"] == boards["submitit_local"] == boards["basic"]
    metrics = (tmp_path / "joblib" / "0" / "metrics.json").stat().st_mtime_ns
    again = tl("-m", "sweep=joblib", cwd=tmp_path, fork=False)  # the launcher, too, is among the words that began it
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "joblib" / "0" / "metrics.json").stat().st_mtime_ns == metrics


def test_a_launcher_that_is_not_there(photos, tmp_path):
    words = two_jobs(photos)
    refused(tl("-m", *words, "hydra/launcher=joblob", cwd=tmp_path), "there is no hydra/launcher/joblob", "joblib")
    nowhere = {"PATH": str(tmp_path)}
    refused(tl("-m", *words, "hydra/launcher=submitit_slurm", cwd=tmp_path, env=nowhere), "there is no SLURM here")
    if find_spec("ray") is None:
        refused(tl("-m", *words, "hydra/launcher=ray", cwd=tmp_path), "needs Ray: pip install ray")


def test_processes_share_out_cores_and_gpus(tmp_path):
    code = (
        "import os, sys; from tl_lightning import machine; machine.take_share(2, int(sys.argv[1]));"
        "print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'], flush=True); sys.stdin.read()"
    )
    plain = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "TL_THREADS", "TL_PROCESSES")}
    env = {**plain, "CUDA_VISIBLE_DEVICES": "3,5", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code, "77"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, env=env, **pipes)
    taken = first.stdout.readline().split()
    second = subprocess.Popen(command, env=env, **pipes)
    others = second.stdout.readline().split()
    assert (taken[0], others[0]) == ("3", "5")
    assert taken[1] == others[1] == str(max(1, machine.cores() // 2))
    first.communicate("")
    third = subprocess.Popen(command, env=env, **pipes)  # the place of a process that has ended is free again
    assert third.stdout.readline().split()[0] == "3"
    for process in (second, third):
        process.communicate("")
    own = subprocess.run(command, env={**env, "OMP_NUM_THREADS": "7"}, input="", capture_output=True, text=True)
    assert own.stdout.split()[1] == "7"  # what the user has said stays


def test_jobs_that_share_a_pass_follow_each_other():
    jobs = combinations(["seed=0,1", "strategy=a,b", "optimizer.lr=1,2"])
    strategies = [word for job in jobs for word in job if word.startswith("strategy")]
    assert strategies == ["strategy=a"] * 4 + ["strategy=b"] * 4
    assert len({tuple(job) for job in jobs}) == 8
    assert combinations(["seed=0,1", "seed=3"]) == [["seed=3"]]  # a later word in place of an earlier
    assert feature_words(["optimizer=sam", "seed=1"]) == feature_words(["optimizer=adamw", "seed=0"])
    assert cost_words(["optimizer=sam", "seed=1"]) != cost_words(["optimizer=adamw", "seed=0"])  # two passes a step


KEEPER = """
import hashlib, json, os
import lightning as L
class Keeper(L.Callback):
    def __init__(self, out):
        self.out = out
    def on_train_epoch_end(self, trainer, module):
        state = b"".join(v.cpu().numpy().tobytes() for v in module.state_dict().values())
        with open(f"{self.out}/rank{trainer.global_rank}.txt", "a") as file:
            file.write(hashlib.sha256(state).hexdigest() + "\\n")
"""


def test_two_machines_by_torchrun_are_one_run(photos, tmp_path):
    """Two agents on this machine, as on two: stages thaw, ranks stay equal, one folder is written."""
    (tmp_path / "own_package.py").write_text(KEEPER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*QUICK, f"data.root={photos}", "data.batch_size=2", "strategy=gradual_unfreeze", "trainer.max_epochs=7",
             "trainer.num_nodes=2", "trainer.strategy=ddp", "logger=csv", "report=false", "allow=[own_package]",
             "+callbacks.keeper._target_=own_package.Keeper", f"+callbacks.keeper.out={tmp_path}"]  # fmt: skip
    base = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1",
            "--master_addr=127.0.0.1", f"--master_port={port}"]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    commands = [[*base, f"--node_rank={n}", str(REPO / "train.py"), *words] for n in (0, 1)]
    nodes = [subprocess.Popen(command, cwd=tmp_path, env=env, **pipes) for command in commands]
    errors = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    ranks = [(tmp_path / f"rank{n}.txt").read_text().split() for n in (0, 1)]
    assert len(ranks[0]) == 7 and len(set(ranks[0])) == 7 and ranks[0] == ranks[1]
    (run,) = (tmp_path / "outputs").glob("*/*")
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 7


def test_a_plan_says_what_a_run_will_be_and_leaves_nothing(photos, tmp_path):
    words = [*QUICK, f"data.root={photos}", "strategy=gradual_unfreeze", "trainer.max_epochs=8"]
    result = tl(*words, "plan=true", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("phase ") >= 6 and "| stage4 | 1,681,344 | 1,681,344 |" in result.stdout
    for what in ("| all |", "memory ", "disk "):
        assert what in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    sweep = tl("-m", *words, "strategy=linear_probe,feature_extraction", "seed=0,1,2", "plan=true", cwd=tmp_path)
    assert sweep.returncode == 0, sweep.stderr
    assert "| strategy=linear_probe | 3 |" in sweep.stdout and "6 jobs, about " in sweep.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    refused(tl(*words, "trainer.max_epochs=2", "plan=true", cwd=tmp_path), "too short for the strategy's phases")


def test_a_ready_sweep_says_what_it_will_take(photos, tmp_path):
    words = [*QUICK, f"data.root={photos}", "sweep=rates", "strategy=feature_extraction", "optimizer.lr=1e-3,1e-2"]
    result = tl("-m", *words, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert result.stdout.index("2 jobs, about ") < result.stdout.index("epoch   0")
    assert "2 of 2" in result.stdout


def test_a_price_looks_at_a_few_batches_however_many_there_are(photos, configure, monkeypatch):
    watches = []

    class Watched(price.Stopwatch):
        def __init__(self, limit):
            super().__init__(0.0)
            watches.append(self)

    monkeypatch.setattr(price, "Stopwatch", Watched)
    words = [*QUICK, f"data.root={photos}", "data.batch_size=1", "strategy=gradual_unfreeze", "strategy.norm=eval"]
    found, _ = price.price(configure(*words, "trainer.max_epochs=9", run="priced"))
    assert [len(epoch.steps) for epoch in watches[0].epochs] == [2, 3, 2, 3, 2, 3]
    assert len(found.phases) == 6 and min(found.phases) > 0


@pytest.mark.parametrize(("limit", "taken"), [(None, 10), (3, 3), (30, 10), (0.5, 5), (1.0, 10)])
def test_a_price_is_of_the_batches_that_the_trainer_takes(limit, taken):
    assert price._limited(10, limit) == taken


def test_a_price_heeds_the_limits_of_the_trainer(photos, configure, monkeypatch):
    asked, seconds = set(), price.EpochTimes.seconds

    def noted(self, steps, evaluated):
        asked.add((steps, evaluated))
        return seconds(self, steps, evaluated)

    words = [*QUICK, f"data.root={photos}", "data.batch_size=1", "strategy=finetune_all", "strategy.norm=eval"]
    monkeypatch.setattr(price.EpochTimes, "seconds", noted)
    price.price(configure(*words, "+trainer.limit_train_batches=7", "+trainer.limit_val_batches=1", run="priced"))
    assert (7, 1) in asked


def test_ranks_that_the_trainer_was_not_told_of_are_refused(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    processes.refuse_ranks(2)
    with pytest.raises(UserError, match="2 processes were started, the trainer has been told of 1"):
        processes.refuse_ranks(1)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    processes.refuse_ranks(1)


def test_a_plan_of_what_is_none(photos, tmp_path):
    words = [*QUICK, f"data.root={photos}", "plan=true"]
    refused(tl("-m", *words, "sweep=quick", cwd=tmp_path), "plan=true prices grids")
    refused(tl("-m", *words, "hparams_search=lp_ft", cwd=tmp_path), "plan=true prices grids")
    refused(tl("resume=somewhere", "plan=true", cwd=tmp_path), "somewhere")
