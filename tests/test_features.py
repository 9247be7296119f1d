"""Rows that are kept equal what would be computed again, and nothing stale is ever used."""

import logging
import shutil

import numpy as np
import pytest
import torch

from tests.conftest import write_image
from tests.frozen import CPU, extract, plan_of, reference, warmed
from tests.tiny import INPUT, tiny_data
from tl_lightning.data.images.transforms import eval_transform
from tl_lightning.errors import UserError
from tl_lightning.features.engine import Prefix
from tl_lightning.features.frozen import Frozen, Options
from tl_lightning.features.views import View
from tl_lightning.strategies import LinearProbe


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("boundary", [1, 3])
@pytest.mark.parametrize("store", ["features", None])
def test_rows_are_the_networks_own(photos, boundary, store):
    network = warmed()
    (train, val), extractor = extract(photos, network, boundary, store=store)
    assert extractor.computed == len(train) + len(val) == 24
    for split, rows in (("train", train), ("val", val)):
        expected = reference(photos, network, boundary, split)
        torch.testing.assert_close(torch.from_numpy(np.array(rows)).float(), expected, rtol=1e-3, atol=1e-3)


def test_a_second_pass_computes_nothing(photos, folder):
    first, _ = extract(photos)
    again, extractor = extract(photos)
    assert extractor.computed == 0
    assert np.array_equal(first[0], again[0])
    assert isinstance(again[0], np.memmap)
    assert again[0].dtype == np.float16
    assert len(list((folder / "features").glob("*/rows.npy"))) == 2


def other_weights(root):
    network = warmed()
    with torch.no_grad():
        network.net.stem[0].weight[0, 0, 0, 0] += 1e-3
    return extract(root, network)


def other_statistics(root):
    network = warmed()
    network.net.stem[1].running_mean[0] += 1e-3
    return extract(root, network)


def other_architecture(root):
    network = warmed()
    network.net.stem[0].stride = (1, 1)
    return extract(root, network)


def other_image(root):
    path = next(iter(sorted((root / "dark").iterdir())))
    write_image(path, 60, seed=999)
    return extract(root)


def other_normalisation(root):
    network, data = warmed(), tiny_data(root)
    network.input = data.input = INPUT.__class__(16, 16, 18, "bilinear", (0.4, 0.5, 0.5), (0.25, 0.25, 0.25))
    return extract(root, network, data=data)


def other_geometry(root):
    size = INPUT.__class__(16, 16, 20, "bilinear", INPUT.mean, INPUT.std)
    return extract(root, view=View(eval_transform(size)))


CHANGES = {
    "weights": other_weights, "statistics": other_statistics, "architecture": other_architecture,
    "image": other_image, "normalisation": other_normalisation, "geometry": other_geometry,
    "boundary": lambda root: extract(root, boundary=2),
    "dtype": lambda root: extract(root, dtype="float32"),
    "mirror": lambda root: extract(root, view=View(eval_transform(INPUT), mirrored=True)),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_is_never_stale(change, photos, folder):
    extract(photos)
    _, extractor = CHANGES[change](photos)
    assert extractor.computed >= 6  # the split that changed
    assert extract(photos)[1].computed == 0


def test_touching_a_file_without_changing_it_keeps_its_rows(photos):
    extract(photos)
    for path in photos.rglob("*.png"):
        path.touch()
    assert extract(photos)[1].computed == 0


def test_a_damaged_entry_is_made_again_and_said_so(photos, folder, caplog):
    expected = np.array(extract(photos)[0][0])
    for damage in (
        lambda f: f.write_bytes(f.read_bytes()[:-50]),
        lambda f: f.write_bytes(f.read_bytes()[:128] + bytes(len(f.read_bytes()) - 128)),
        lambda f: f.write_bytes(b""),
        lambda f: f.unlink(),
    ):
        for file in (folder / "features").glob("*/rows.npy"):
            damage(file)
        caplog.clear()
        rows, extractor = extract(photos)
        assert extractor.computed == 24
        assert caplog.text.count("is damaged") == 2
        assert np.array_equal(rows[0], expected)


def test_what_half_precision_cannot_hold_is_kept_in_single(photos, caplog):
    caplog.set_level(logging.INFO)
    network = warmed()
    with torch.no_grad():
        network.net.block2[1].weight.mul_(1e6)
    rows, _ = extract(photos, network)
    assert rows[0].dtype == np.float32
    assert "half precision cannot hold" in caplog.text
    torch.testing.assert_close(torch.from_numpy(np.array(rows[0])), reference(photos, network), rtol=1e-4, atol=1e-2)


def test_one_image_beyond_half_precision_is_seen_in_the_pass(photos, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    network = warmed()
    run = Prefix.__call__
    monkeypatch.setattr(Prefix, "__call__", lambda self, x: run(self, x) + 70_000.0)
    rows, _ = extract(photos, network)
    assert rows[0].dtype == np.float32
    assert "half precision cannot hold" in caplog.text
    assert np.isfinite(rows[0]).all()


def test_what_was_too_large_once_is_found_in_single_precision(photos, monkeypatch):
    """A later run neither computes again nor runs into the same image."""
    network, run = warmed(), Prefix.__call__
    with monkeypatch.context() as large:
        large.setattr(Prefix, "__call__", lambda self, x: run(self, x) + 70_000.0)
        extract(photos, network)
    monkeypatch.setattr("tl_lightning.features.extract._AGREES", 1e9)  # the rows that are compared are not that large
    rows, extractor = extract(photos, network)
    assert extractor.computed == 0
    assert rows[0].dtype == np.float32
    assert rows[0].min() > 60_000


def test_rows_that_are_no_numbers_are_computed_by_the_network_itself(photos, monkeypatch):
    """As where an engine's half precision overflows inside the network; if the network has none either, it is said."""
    network, run = warmed(), Prefix.__call__
    monkeypatch.setattr(Prefix, "__call__", lambda self, x: run(self, x) * float("inf"))
    rows, _ = extract(photos, network, dtype="float32")
    torch.testing.assert_close(torch.from_numpy(np.array(rows[0])), reference(photos, network), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        network.net.stem[0].weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite: are the weights damaged"):
        extract(photos, network, dtype="float32")


def test_batches_share_one_piece_of_memory(photos):
    """Where memory of aligned blocks is not found again, an allocation a batch grew the heap by all of them."""
    _, extractor = extract(photos)
    pixels = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    first = extractor._normalised(pixels)
    assert torch.equal(first, INPUT.normalise(pixels))
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert extractor._normalised(pixels[:2]).data_ptr() == first.data_ptr()
    assert extractor._normalised(torch.cat([pixels, pixels])).shape[0] == 12


def test_two_splits_of_the_same_images(photos, tmp_path):
    """A test split that is a copy of val, as a stopgap: no process waits for itself."""
    root = tmp_path / "split"
    for split in ("train", "val", "test"):
        shutil.copytree(photos, root / split)
    data = tiny_data(root)
    frozen = Frozen(warmed(), plan_of(LinearProbe()), data, Options())
    loaders, _ = frozen.loaders(CPU, 1)
    assert {s: len(rows[0]) for s, rows in loaders.rows.items()} == {"train": 24, "val": 24, "test": 24}
