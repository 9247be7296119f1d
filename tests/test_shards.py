"""Images in shards: the same as in a folder, each once an epoch over all workers and ranks, also from an address."""

import http.server
import io
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import tl_lightning as tl
from tests.conftest import write_image
from tl_lightning.data import image_folder, image_shards, sampling
from tl_lightning.data.images.shards import places
from tl_lightning.data.images.transforms import ImageAugmentation
from tl_lightning.data.sampling import WindowSampler
from tl_lightning.errors import UserError
from tl_lightning.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import resume_matrix

PROBE = {"strategy": "linear_probe", "backbone.image_size": 32, "trainer": "cpu"}


def tar(path, samples):
    """A shard of (key, image file, label)."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, file, label in samples:
            for ending, data in ((file.suffix, file.read_bytes()), (".cls", label.encode())):
                member = tarfile.TarInfo(f"{key}{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def parquet(path, samples, **names):
    """A file of row groups of five images."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    images = [{"bytes": file.read_bytes(), "path": file.name} for _, file, _ in samples]
    table = pa.table({"image": images, "label": [label for *_, label in samples]})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata(names), path, row_group_size=5)
    return path


@pytest.fixture
def samples(tmp_path):
    """Sixty images of two classes, in no order of their classes."""
    made = []
    for i in range(60):
        label = "dark" if i * 7 % 60 < 30 else "light"
        file = tmp_path / "files" / label / f"{i:02d}.png"
        write_image(file, 60 if label == "dark" else 190, i)
        made.append((f"{i:02d}", file, label))
    return made


@pytest.fixture
def shards(samples, tmp_path):
    """Five shards of twelve images, the last of them for validation."""
    for k in range(5):
        tar(tmp_path / "shards" / f"{'val' if k == 4 else 'train'}-{k}.tar", samples[12 * k : 12 * k + 12])
    return tmp_path / "shards"


@pytest.fixture
def served(shards):
    """The address of a server on this machine that has them."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(shards))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def input():
    from tl_lightning import backbones

    return backbones.torchvision("mobilenet_v2", weights=None, image_size=32).input


def module(input, said, **options):
    return image_shards(input, shards=str(said), augment=ImageAugmentation(), workers=0, batch_size=4, **options)


def test_shards_hold_what_the_folder_holds(shards, samples, tmp_path, input):
    data = module(input, shards)
    assert data.samples.task.outputs == ("dark", "light")
    assert (data.samples.size("train"), data.samples.size("val")) == (48, 12)
    folder = image_folder(input, root=str(tmp_path / "files"), augment=ImageAugmentation(), workers=0)
    plain = {Path(item.path).stem: folder.dataset(s, folder.eval_transform)[k, 0]
             for s in ("train", "val") for k, item in enumerate(folder.samples.used(s))}  # fmt: skip
    for split in ("train", "val"):
        images = data.dataset(split, data.eval_transform)
        for k, item in enumerate(data.samples.used(split)):
            pixels, target, _ = images[k, 0]
            assert torch.equal(pixels, plain[Path(item.path).stem][0])
            assert target == plain[Path(item.path).stem][1]


def test_parquet_of_numbers_with_names(samples, tmp_path, input):
    numbered = [(key, file, int(label == "light")) for key, file, label in samples]
    names = '{"info": {"features": {"label": {"names": ["dark", "light"], "_type": "ClassLabel"}}}}'
    parquet(tmp_path / "p" / "train.parquet", numbered, huggingface=names)
    data = module(input, tmp_path / "p")
    assert data.samples.task.outputs == ("dark", "light")
    assert data.window == 4
    assert [i.kind for i in data.issues()] == []
    unlabelled = [(key, file, -1 if i < 3 else label) for i, (key, file, label) in enumerate(numbered)]
    parquet(tmp_path / "u" / "train.parquet", unlabelled, huggingface=names)
    assert [i.skipped for i in module(input, tmp_path / "u").samples.skipped] == ["no label"] * 3
    parquet(tmp_path / "o" / "train.parquet", [*numbered, ("x", samples[0][1], 7)], huggingface=names)
    with pytest.raises(UserError, match="has the label 7, and names for 0 to 1"):
        module(input, tmp_path / "o")
    levels = {name: [] for name in data.samples.task.outputs}
    for split in ("train", "val"):
        images = data.dataset(split, data.eval_transform)
        for k, item in enumerate(data.samples.used(split)):
            levels[item.label].append(float(images[k, 0][0].float().mean()))
    assert max(levels["dark"]) < 100 < min(levels["light"])


def test_names_with_braces_patterns_and_lists(shards):
    names = [str(shards / f"train-{k}.tar") for k in range(4)]
    assert places.shard_names(str(shards / "train-{0..3}.tar")) == names
    assert places.shard_names(str(shards / "train-*.tar")) == names
    assert places.shard_names([names[0], str(shards / "{train-1,train-2}.tar")]) == names[:3]
    assert places.shard_names(str(shards)) == [*names, str(shards / "val-4.tar")]
    assert places.shard_names("https://x.org/a-{08..10}.tar") == [
        f"https://x.org/a-{k}.tar" for k in ("08", "09", "10")
    ]


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


def _cut(shards, length):
    file = shards / "train-1.tar"
    file.write_bytes(file.read_bytes()[:length])


def _without_end(shards):
    """Cut where the last file in it ends."""
    with tarfile.open(shards / "train-1.tar") as archive:
        last = archive.getmembers()[-1]
    _cut(shards, last.offset_data + -(-last.size // 512) * 512)


def _damaged(shards):
    """One byte of the header of a file in the middle."""
    with tarfile.open(shards / "train-1.tar") as archive:
        place = archive.getmembers()[5].offset
    whole = bytearray((shards / "train-1.tar").read_bytes())
    whole[place + 2] ^= 255
    (shards / "train-1.tar").write_bytes(whole)


def _joined(shards):
    (shards / "train-1.tar").write_bytes((shards / "train-1.tar").read_bytes() + (shards / "train-2.tar").read_bytes())


FAULTS = {
    "cut short": (lambda s: _cut(s, 9000), "", "train-1.tar .*fetch it again"),
    "no end": (_without_end, "", "train-1.tar was cut short: .*fetch it again"),
    "no tar": (lambda s: (s / "train-1.tar").write_bytes(b"nothing" * 200), "", "train-1.tar .*fetch it again"),
    "compressed": (lambda s: None, "/train-{0..3}.tar.gz", "must not be compressed"),
    "a damaged header": (lambda s: _damaged(s), "", "train-1.tar is damaged at byte"),
    "two in one": (lambda s: _joined(s), "", "train-1.tar is damaged at byte .* or two files in one"),
    "empty": (lambda s: [p.unlink() for p in s.iterdir()], "", "there are no shards"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_read_is_refused(fault, shards, input):
    plant, names, said = FAULTS[fault]
    plant(shards)
    with pytest.raises(UserError, match=said):
        module(input, f"{shards}{names}")


def test_addresses_that_do_not_answer_or_are_none(shards, served, input):
    for wrong, said in (
        (f"{served}/none.tar", "none.tar does not answer"),
        ("http://127.0.0.1:9/x.tar", "x.tar does not answer"),
        ("pipe://cat x.tar", "addresses begin with"),
        (f"simplecache::{served}/train-0.tar", "addresses begin with"),
        (f"{shards}/nothing-{{0..1}}.tar", "nothing-0.tar does not exist"),
    ):
        with pytest.raises(UserError, match=said):
            module(input, wrong)


def test_an_image_that_cannot_be_read_is_left_out(samples, tmp_path, input):
    broken = tmp_path / "files" / "dark" / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    tar(tmp_path / "s" / "a.tar", [*samples, ("broken", broken, "dark"), ("nolabel", samples[0][1], "")])
    data = module(input, tmp_path / "s")
    assert {i.path: i.skipped.split(":")[0] for i in data.samples.skipped} == {
        "a.tar/broken.png": "UnidentifiedImageError", "a.tar/nolabel.png": "no label"}  # fmt: skip
    assert data.samples.size("train") + data.samples.size("val") == 60
    assert isinstance(data.samples.shown(data.samples.used("train")[0]), str)


def test_a_folder_above_shards_says_their_split(samples, tmp_path, input):
    (tmp_path / "s").mkdir()
    tar(tmp_path / "s" / "train" / "000.tar", samples[:40])
    tar(tmp_path / "s" / "val" / "000.tar", samples[:20])
    data = module(input, f"{tmp_path}/s/{{train,val}}/000.tar", doctor="off")
    assert (data.samples.size("train"), data.samples.size("val")) == (40, 20)
    assert data.samples.used("val")[0].path.startswith("val/000.tar/")


def test_labels_as_other_programs_write_them(samples, tmp_path, input):
    """JSON before a caption, null for none, dots in names, a second image of a sample."""
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:

        def add(name, data):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        for key, file, label in samples[:40]:
            add(f"{key}.png", file.read_bytes())
            add(f"{key}.txt", b"a caption")
            add(f"{key}.json", f'{{"label": "{label}"}}'.encode())
            add(f"{key}.mask.png", file.read_bytes())
        add("img.v1.png", samples[40][1].read_bytes())
        add("img.v1.cls", samples[40][2].encode())
        add("img.v2.png", samples[41][1].read_bytes())
        add("img.v2.json", b'{"label": null}')
    found = module(input, path).samples
    assert found.task.outputs == ("dark", "light")
    assert found.size("train") + found.size("val") == 41
    assert [(i.path, i.skipped) for i in found.skipped] == [("s.tar/img.v2.png", "no label")]
