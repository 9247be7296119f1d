"""Decoding less: what is kept equals what would be decoded, and a draft is close to it."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import INPUT, tiny_data
from tl_lightning.data.images import decode, decoded, transforms
from tl_lightning.data.images.loading import stack
from tl_lightning.data.images.transforms import ImageAugmentation
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput

LARGE = ImageInput(64, 64, 72, "bilinear", (0.5,) * 3, (0.25,) * 3)


def scene(width, height, seed=0):
    """Smooth shapes with some texture, as photographs are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 100
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(0.5, 3, (3, 3))]
    pixels = 128 + 80 * np.stack(waves, -1) + rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture
def jpegs(tmp_path):
    for i, (label, size) in enumerate([("a", (400, 300)), ("a", (300, 420)), ("b", (90, 80)), ("b", (640, 200))] * 3):
        path = tmp_path / "jpegs" / label / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(*size, seed=i).save(path, quality=90)
    return tmp_path / "jpegs"


def batches(root, epochs=2, **options):
    data = tiny_data(root, batch_size=5, **options)
    data.input = LARGE
    loaders = [data.train_dataloader(), data.val_dataloader()]
    return [torch.cat([batch.inputs for batch in loader]) for loader in loaders for _ in range(epochs)]


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_kept_images_equal_decoded_ones(kind, jpegs, monkeypatch):
    """The second epoch opens no file and gives the first one's pixels (order and seeds are the same here)."""
    first_train, again_train, first_val, again_val = batches(jpegs, cache=kind)
    assert torch.equal(first_train, again_train)
    assert torch.equal(first_val, again_val)
    assert torch.equal(first_val, batches(jpegs, epochs=1, cache="off")[1])  # evaluation: exact
    data = tiny_data(jpegs, batch_size=5, cache=kind)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        list(loader)
        with monkeypatch.context() as closed:
            closed.setattr("tl_lightning.data.images.loading.load_rgb", lambda *a: pytest.fail("decoded again"))
            list(loader)


def test_a_later_run_finds_the_disk_filled_and_a_changed_file_not(jpegs, monkeypatch):
    batches(jpegs, epochs=1, cache="disk")
    with monkeypatch.context() as closed:
        closed.setattr("tl_lightning.data.images.loading.load_rgb", lambda *a: pytest.fail("decoded again"))
        batches(jpegs, epochs=1, cache="disk")
    before = batches(jpegs, epochs=1, cache="disk")
    for path in jpegs.rglob("*.jpg"):
        Image.eval(Image.open(path), lambda v: 255 - v).save(path)
    after = batches(jpegs, epochs=1, cache="disk")
    assert (before[1].float() - after[1].float()).abs().mean() > 20


def test_a_damaged_file_is_decoded_again_and_said_so(jpegs, tmp_path, monkeypatch, caplog):
    """As a power failure leaves it: entries that say they are filled, and pixels that never reached the disk."""
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    expected = batches(jpegs, epochs=1, cache="disk")
    images = list((tmp_path / "cache" / "images").glob("*/pixels"))
    assert len(images) == 2
    for file in images:
        file.write_bytes(bytes(file.stat().st_size))
    again = batches(jpegs, epochs=1, cache="disk")
    assert "is damaged: image" in caplog.text
    caplog.clear()
    mended = batches(jpegs, epochs=1, cache="disk")
    assert not caplog.text
    for found in (again, mended):
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_the_last_evaluation_finds_the_images_decoded(jpegs, monkeypatch):
    data = tiny_data(jpegs, batch_size=5, cache="ram")
    list(data.val_dataloader())
    monkeypatch.setattr("tl_lightning.data.images.loading.load_rgb", lambda *a: pytest.fail("decoded again"))
    assert len(list(data.val_dataloader())) > 0


def test_workers_fill_the_slots_of_the_parent(jpegs):
    data = tiny_data(jpegs, batch_size=5, cache="ram")
    data.workers = 2
    loader = data.train_dataloader()
    list(loader)
    assert all(loader.dataset.decoded.get(i) is not None for i in range(len(loader.dataset)))


def test_random_crops_come_from_images_of_the_stated_side(jpegs):
    data = tiny_data(jpegs, batch_size=5, cache="ram")
    data.input = LARGE
    kept = data.train_dataloader().dataset
    for i, (path, _) in enumerate(kept.items):
        with Image.open(path) as file:
            assert min(kept.prepared(i).size) == min(74, *file.size)  # 1.15 x 64, never enlarged
        again = kept.prepared(i)
        assert np.array_equal(kept.decoded.get(i), again)


@pytest.mark.parametrize("size", [(400, 301), (301, 400), (50, 60), (74, 200), (75, 1000)])
def test_shrink_foretells_its_size(size):
    shrink = transforms.shrink(LARGE)
    assert shrink(Image.new("RGB", size)).size == shrink.size(*size)


def psnr(a, b):
    error = (np.asarray(a, float) - np.asarray(b, float)) ** 2
    return 10 * np.log10(255**2 / error.mean())


@pytest.mark.parametrize("scale", [2.0, 3.5, 8.0])
def test_a_draft_is_close_to_the_whole_image(scale, tmp_path):
    path = tmp_path / "a.jpg"
    scene(round(96 * scale), round(72 * scale)).save(path, quality=92)
    transform = transforms.eval_transform(LARGE)
    draft = decode.load_rgb(path, transform.asks)
    assert 72 <= min(draft.size) < 144
    whole = decode.load_rgb(path)
    assert psnr(transform(draft).permute(1, 2, 0), transform(whole).permute(1, 2, 0)) > 35


def test_no_draft_below_twice_the_size_and_none_of_other_formats(tmp_path):
    scene(140, 140).save(tmp_path / "a.jpg")
    scene(400, 400).save(tmp_path / "b.png")
    assert decode.load_rgb(tmp_path / "a.jpg", 72).size == (140, 140)
    assert decode.load_rgb(tmp_path / "b.png", 72).size == (400, 400)


def test_size_is_that_of_the_upright_image(tmp_path):
    image, exif = scene(120, 80), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert decode.size(tmp_path / "a.jpg") == decode.load_rgb(tmp_path / "a.jpg").size == (80, 120)


def test_where_images_are_kept(monkeypatch, tmp_path):
    shapes = np.full((10, 2), 100)
    need = decoded._room(shapes).sum()
    assert 300_000 < need < 330_000
    monkeypatch.setattr(decoded, "free_memory", lambda: 4 * need + 1)
    assert decoded.keep("auto", "t", [1], shapes)[0].folder is None
    assert decoded.keep("auto", "t", [1], shapes, ranks=2)[0].folder is not None
    monkeypatch.setattr(decoded, "free_memory", lambda: 4 * need - 5)
    assert decoded.keep("auto", "t", [1], shapes)[0].folder is not None
    monkeypatch.setenv("TL_CACHE_GB", "0")
    slots, why = decoded.keep("auto", "t", [2], shapes)
    assert slots is None
    assert "are not kept: " in why
    assert "TL_CACHE_GB=0 allows" in why
    assert decoded.keep("off", "t", [2], shapes)[0] is None
    monkeypatch.delattr(decoded.os, "pread")  # Windows
    assert decoded.keep("disk", "t", [1], shapes)[0] is None


def test_a_full_disk_costs_speed_alone(monkeypatch, jpegs):
    expected = batches(jpegs, epochs=1, cache="off")[1]
    monkeypatch.setattr(decoded.os, "pwrite", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert torch.equal(batches(jpegs, epochs=2, cache="disk")[3], expected)


def test_unknown_choice(jpegs):
    with pytest.raises(UserError, match=r"data.cache=tape is unknown: use auto, ram, disk, off"):
        tiny_data(jpegs, batch_size=5, cache="tape")


def test_erasing_blanks_rectangles_of_the_papers_sizes():
    torch.manual_seed(0)
    batch = torch.ones(400, 3, 40, 40)
    erased = transforms.erase(batch, 0.5)
    gone = (erased == 0).all(1)
    shares = gone.flatten(1).double().mean(1)
    touched = shares[shares > 0]
    assert 150 < len(touched) < 250
    assert touched.min() > 0.01
    assert touched.max() < 0.36
    for mask in gone[:50]:
        ys, xs = torch.nonzero(mask, as_tuple=True)
        if len(ys):
            assert len(ys) == (ys.max() - ys.min() + 1) * (xs.max() - xs.min() + 1)  # a full rectangle
    assert torch.equal(transforms.erase(batch, 0.0), batch)


def test_collated_batches_are_channels_last_and_unchanged():
    transform = transforms.train_transform(INPUT, ImageAugmentation())
    samples = [transform(scene(40, 30, i)) for i in range(5)]
    batch = stack(samples)
    assert torch.equal(batch, torch.stack(samples))
    assert batch.is_contiguous(memory_format=torch.channels_last)
