"""Images in shards, each once an epoch over all workers and ranks, also from an address; runs on them."""

import sys
from pathlib import Path

import numpy as np
import pytest

import tl_lightning as tl
from tl_lightning.data import image_shards, sampling
from tl_lightning.data.images.transforms import ImageAugmentation
from tl_lightning.data.sampling import WindowSampler
from tl_lightning.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import resume_matrix

PROBE = {"strategy": "linear_probe", "backbone.image_size": 32, "trainer": "cpu"}


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("remote", [False, True])
def test_two_ranks_of_two_workers_see_every_image_once_an_epoch(window, remote, shards, served, input, monkeypatch):
    said = f"{served}/{{train-0,train-1,train-2,train-3,val-4}}.tar" if remote else shards
    orders = []
    for epoch in range(3):
        seen = []
        for rank in range(2):
            monkeypatch.setattr(sampling, "_rank_and_world", lambda rank=rank: (rank, 2))
            data = image_shards(
                input, shards=str(said), augment=ImageAugmentation(), workers=2, batch_size=4, window=window
            )
            loader = data.train_dataloader()
            loader.sampler.set_epoch(epoch)
            seen += [int(i) for batch in loader for i in batch.index]
        assert sorted(seen) == list(range(48))
        orders.append(seen)
    assert orders[0] != orders[1] != orders[2]


def test_a_window_holds_all_that_comes_next():
    units = np.repeat(np.arange(10), 7)
    order = WindowSampler(units, 0, 3)
    order.set_epoch(1)
    drawn = units[[i for i, _ in order]]
    assert sorted(drawn.tolist()) == sorted(units.tolist())
    parts = [set(drawn[k : k + 21].tolist()) for k in range(0, 63, 21)]
    assert all(len(part) == 3 for part in parts) and len(set.union(*parts)) == 9
    assert len(np.unique(np.flatnonzero(np.diff(drawn)))) > 40  # within it all are shuffled


def test_stopped_and_resumed_the_weights_are_the_same(shards, served, tmp_path, monkeypatch):
    monkeypatch.setattr(resume_matrix, "EPOCHS", 3)
    said = resume_matrix.words(shards, "finetune_all", "off", 2, "default")
    said = [word for word in said if not word.startswith(("data.root=", "data.cache="))]
    address = f"{served}/{{train-0,train-1,train-2,train-3,val-4}}.tar"
    found = dict(resume_matrix.resumed(tmp_path, [*said, "data=webdataset", f"data.shards='{address}'"]))
    assert found and all(differences == [] for differences in found.values())


def test_what_is_fetched_makes_room_for_what_comes(shards, served, input, monkeypatch, tmp_path):
    """With room for two shards of five every image is read all the same."""
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    size = max(p.stat().st_size for p in shards.iterdir())
    monkeypatch.setenv("TL_CACHE_GB", str(2.5 * size / 1e9))
    said = f"{served}/{{train-0,train-1,train-2,train-3,val-4}}.tar"
    data = image_shards(input, shards=said, augment=ImageAugmentation(), workers=2, batch_size=4, window=1)
    assert 1 <= len(list(Store("shards").root.glob("*/shard"))) <= 2
    for epoch in range(2):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        assert sorted(int(i) for batch in loader for i in batch.index) == list(range(48))
    assert 1 <= len(list(Store("shards").root.glob("*/shard"))) <= 2


def test_a_run_is_evaluated_and_kept_features_are_used(shards, tmp_path, caplog):
    caplog.set_level("INFO")
    words = {"data": "webdataset", "data.shards": str(shards), **PROBE}
    run = _train(words, tmp_path / "run")
    assert run.metrics["val/accuracy"] == 1.0
    again = _train({**words, "head.dropout": 0.1}, tmp_path / "again")
    assert any("all from an earlier run" in m for m in caplog.messages)
    assert again.metrics["val/accuracy"] == 1.0
    assert tl.load(run.path).evaluate()["val/accuracy"] == 1.0
    assert (run.path / "splits.csv").read_text().count("train-0.tar/") == 12


def test_a_run_finds_its_shards_from_elsewhere(shards, tmp_path, monkeypatch):
    monkeypatch.chdir(shards)
    run = _train({"data": "webdataset", "data.shards": "train-{0..3}.tar", **PROBE}, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert tl.load(run.path).evaluate()["val/accuracy"] == run.metrics["val/accuracy"]


def _train(words, folder):
    from tl_lightning.config.compose import composed
    from tl_lightning.config.settings import settings_of
    from tl_lightning.config.words import arguments
    from tl_lightning.jobs.train import train

    train(settings_of(composed(arguments([f"{k}={v}" for k, v in words.items()]), str(folder))))
    return tl.load(folder)
