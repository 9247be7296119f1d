"""Rule 5: what thaws on several processes is averaged, and all images are counted once."""

import subprocess
import sys

import pytest
import torch


def train(photos, out, devices, rewrap=True):
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.ddp_worker", str(photos), str(out), str(devices)]
    subprocess.run([*command, "rewrap" if rewrap else "leave"], check=True, timeout=300)
    files = sorted(out.glob(f"rank*of{devices}.pt"))
    assert len(files) == devices
    return [torch.load(f, weights_only=True) for f in files]


def difference(a, b):
    return max((a[k] - b[k]).abs().max().item() for k in a if a[k].is_floating_point())


@pytest.fixture
def ranks(photos, tmp_path):
    return train(photos, tmp_path / "two", 2)


def test_two_processes_hold_equal_weights_after_every_phase_and_learn_like_one(ranks, photos, tmp_path):
    one = train(photos, tmp_path / "one", 1)[0]
    first, second = ranks
    assert len(first["epochs"]) == 4
    for epoch in range(4):
        assert difference(first["epochs"][epoch], second["epochs"][epoch]) == 0
        # two ranks with half the batch each take the step of one process with all of it
        assert difference(first["epochs"][epoch], one["epochs"][epoch]) < 1e-5
    stem = "backbone.net.stem.0.weight"
    assert not torch.equal(first["epochs"][2][stem], first["epochs"][3][stem])  # the last phase did thaw it
    # evaluation: every validation image once, on one rank or the other
    assert first["validated"] + second["validated"] == one["validated"]
    assert first["accuracy"] == second["accuracy"] == one["accuracy"]


def test_without_wrapping_again_the_ranks_would_drift_apart(photos, tmp_path):
    """The control: what Lightning's own fine-tuning callback does (pytorch-lightning#20340)."""
    first, second = train(photos, tmp_path / "drift", 2, rewrap=False)
    assert difference(first["epochs"][0], second["epochs"][0]) == 0
    assert difference(first["epochs"][3], second["epochs"][3]) > 0
