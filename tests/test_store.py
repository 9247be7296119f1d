"""The cache folder: entries are whole or absent, made once, and make room for each other."""

import errno
import multiprocessing
import os
import time

import pytest

from tl_lightning import store
from tl_lightning.cli.cache import cache
from tl_lightning.errors import UserError
from tl_lightning.store import NoRoom, Store


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(key, size=10_000, name="features"):
    entries = Store(name)
    with entries.lock(key):
        entries.make_room(size)
    with entries.lock(key), entries.writing(key, {"images": 1}) as draft:
        (draft / "rows").write_bytes(b"x" * size)
    return entries


def keys():
    return {e.folder.name for e in store.entries()}


def test_what_is_written_is_found():
    entry = put("a").get("a")
    assert (entry.folder / "rows").read_bytes() == b"x" * 10_000
    assert entry.facts == {"images": 1}
    assert 10_000 < entry.bytes < 10_100
    assert Store("features").get("b") is None


def test_half_written_is_never_seen(folder):
    entries = Store("features")
    with pytest.raises(KeyboardInterrupt), entries.lock("a"), entries.writing("a", {}) as draft:
        (draft / "rows").write_bytes(b"half")
        assert entries.get("a") is None
        raise KeyboardInterrupt
    assert entries.get("a") is None
    assert [p.name for p in (folder / "features").iterdir()] == ["a.lock"]


def test_the_least_recently_used_makes_room(monkeypatch):
    for key in "abc":
        put(key)
        time.sleep(0.02)
    assert Store("features").get("a")  # used again: b is now the oldest
    monkeypatch.setenv("TL_CACHE_GB", str(30_100 / 1e9))
    put("d", name="images")
    assert keys() == {"a", "c", "d"}


def test_an_entry_larger_than_the_budget_or_the_disk(monkeypatch):
    put("a")
    monkeypatch.setenv("TL_CACHE_GB", "0.000001")
    with pytest.raises(NoRoom, match=r"10.0 kB are more than TL_CACHE_GB=1e-06 allows"):
        put("b")
    assert keys() == {"a"}  # nothing was removed for what cannot be kept
    monkeypatch.setenv("TL_CACHE_GB", "lots")
    with pytest.raises(UserError, match="TL_CACHE_GB=lots"):
        put("b")
    monkeypatch.setenv("TL_CACHE_GB", "1e9")
    with pytest.raises(NoRoom, match="are free at"):
        Store("features").make_room(10**17)


def test_a_disk_that_fills_up_is_no_room_and_other_errors_stay_what_they_are(folder):
    entries = Store("features")
    with pytest.raises(NoRoom, match="No space left"), entries.lock("a"), entries.writing("a", {}):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="truncated"), entries.lock("a"), entries.writing("a", {}):
        raise OSError("image file is truncated")
    assert [p.name for p in (folder / "features").iterdir()] == ["a.lock"]


def test_a_folder_that_cannot_be_written(folder):
    folder.write_text("in the way")
    with pytest.raises(NoRoom, match="cannot be written"), Store("features").lock("a"):
        pass


def _make_once(log):
    entries = Store("features")
    with entries.lock("a"):
        if entries.get("a") is None:
            with entries.writing("a", {}), open(log, "a") as file:
                time.sleep(0.2)
                file.write("made\n")


def test_two_processes_do_the_work_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_make_once, args=(tmp_path / "log",)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert (tmp_path / "log").read_text() == "made\n"


def test_list_size_clear(capsys):
    put("a")
    for action, expected in (("list", "features"), ("size", "1 entries"), ("clear", "removed"), ("size", "0 entries")):
        cache([action])
        assert expected in capsys.readouterr().out


def test_the_list_tells_entries_apart_and_a_wrong_budget_is_one_line(capsys, monkeypatch):
    entries = Store("features")
    for key, mirrored in (("a", False), ("b", True)):
        facts = {"network": "ResNet", "split": "train", "images": 9, "shape": [64, 7, 7], "root": "photos",
                 "view": f"Resize(9) mirrored={mirrored} draw=0"}  # fmt: skip
        with entries.lock(key), entries.writing(key, facts):
            pass
    cache([])
    printed = capsys.readouterr().out
    for mirrored in (False, True):
        assert f"ResNet train 9 rows of 64x7x7 mirrored={mirrored} draw=0 photos" in printed
    for text in ("[1]", "{", '{"network": "\\u001b[2J", "shape": 3}'):  # whatever somebody has made of the file
        (entries.root / "a" / "entry.json").write_text(text)
        cache([])
    assert "\\x1b[2J" in capsys.readouterr().out
    monkeypatch.setenv("TL_CACHE_GB", "lots")
    with pytest.raises(SystemExit, match="error: TL_CACHE_GB=lots must be a number of gigabytes"):
        cache([])


def test_what_killed_processes_left_is_removed_and_what_live_ones_write_is_not(folder):
    entries = Store("features")
    dead = folder / "features" / "dead.x1y2.part"
    dead.mkdir(parents=True)
    (dead / "rows").write_bytes(b"x" * 5000)
    with entries.lock("live"), entries.writing("live", {}) as draft:
        (draft / "rows").write_bytes(b"x" * 7000)
        assert store.clear() == 5000
        assert not dead.exists()
        dead.mkdir()
        entries.make_room(10)
        assert not dead.exists()
        assert draft.exists()
    assert keys() == {"live"}


def test_human():
    assert [store.human(n) for n in (999, 1500, 2e6, 3e10)] == ["999 bytes", "1.5 kB", "2.0 MB", "30.0 GB"]
