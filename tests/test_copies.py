"""Copies of a picture, near ones too: found, kept on one side, and said where a given split divides them."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

import tl_lightning as tl
from tl_lightning.data.images import image_folder, inspection, load_rgb
from tl_lightning.data.images.near_copies import near_copies
from tl_lightning.data.images.pictures import near_pictures, same_pictures
from tl_lightning.data.splits import SplitOptions
from tl_lightning.errors import UserError

SHARED = Path(os.environ.get("TL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
PROBE = {"strategy": "linear_probe", "backbone.image_size": 32, "trainer": "cpu"}


def picture(seed, side=96):
    """Something like a photograph: patches of all sizes, with little noise."""
    random = np.random.default_rng(seed)
    whole = np.zeros((side, side))
    for n in (3, 6, 12, 24, 48):
        patches = Image.fromarray(random.normal(size=(n, n)).astype(np.float32))
        whole += np.asarray(patches.resize((side, side), Image.Resampling.BILINEAR)) * side / n
    levels = 128 + 50 * (whole - whole.mean()) / whole.std()
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).convert("RGB")


def variants(image):
    """What becomes of a picture on its way through other people's hands."""
    w, h = image.size
    return {
        "crop": image.crop((round(w * 0.05), round(h * 0.05), round(w * 0.95), round(h * 0.95))),
        "shifted": image.crop((round(w * 0.03), 0, w - round(w * 0.02), h - round(h * 0.04))),
        "mirror": ImageOps.mirror(image),
        "half": image.resize((w // 2, h // 2)),
        "double": image.resize((2 * w, 2 * h)),
        "encoded": image,
        "brighter": ImageEnhance.Brightness(image).enhance(1.2),
    }


def opened(root):
    """What gives the images below a folder."""
    return lambda path, at_least: load_rgb(root / path, at_least)


def write(folder, images):
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        image.save(folder / f"{name}.jpg", quality=60 if name.endswith("encoded") else 90)
    return [f"{name}.jpg" for name in images]


def test_what_becomes_of_a_picture_is_found_and_nothing_else(tmp_path):
    images = {f"{i:02d}": picture(i) for i in range(40)}
    planted = {f"{i:02d} {kind}": v for i in range(20) for kind, v in variants(picture(i)).items()}
    names = write(tmp_path, images | planted)
    found = near_copies(names, inspection.look(tmp_path, names), opened(tmp_path), show=False)
    pairs = {(names[p.first], names[p.second]) for p in found}
    assert all(a[:2] == b[:2] for a, b in pairs)
    same = same_pictures(
        inspection.look(tmp_path, names), near_pictures(inspection.look(tmp_path, names), opened(tmp_path))
    )
    assert sum(same[f"{name}.jpg"] == same[f"{name[:2]}.jpg"] for name in planted) >= 0.98 * len(planted)
    assert len({same[f"{i:02d}.jpg"] for i in range(40)}) == 40
    assert {p.mirrored for p in found if "mirror" in names[p.first] + names[p.second]} >= {True}


def test_digits_are_so_alike_that_none_is_taken_for_a_copy(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    font = ImageFont.load_default(22)
    random, drawn = np.random.default_rng(0), {}
    for i in range(300):
        image = Image.new("L", (28, 28))
        ImageDraw.Draw(image).text(tuple(random.normal((8, 1))), str(i % 10), 255, font)
        drawn[f"{i:03d}"] = image.rotate(random.normal(0, 8), Image.Resampling.BICUBIC)
    names = write(tmp_path, drawn)
    assert near_copies(names, inspection.look(tmp_path, names), opened(tmp_path), show=False) == []
    assert any("so alike that only exact copies are told" in m for m in caplog.messages)


@pytest.mark.parametrize(("name", "most"), [("hymenoptera", 0), ("sign_digits", 0)])
def test_photographs_that_are_no_copies(name, most):
    """Of 2,062 hand signs before one wall, hashes take 330 pairs for copies."""
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"{root} is not here")
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix.lower() in (".jpg", ".png"))
    assert len(near_pictures(inspection.look(root, names), opened(root))) <= most


@pytest.fixture
def scattered(tmp_path):
    """Two classes of 20 pictures, ten of which have a near copy in their class under another name."""
    for label in ("a", "b"):
        shift = 0 if label == "a" else 100
        write(tmp_path / "p" / label, {f"{label}{i:02d}": picture(shift + i) for i in range(20)})
        kinds = ("crop", "mirror", "half", "encoded", "brighter")
        write(
            tmp_path / "p" / label,
            {f"x{label}{i:02d}{k}": variants(picture(shift + i))[k] for i, k in enumerate(kinds)},
        )
    return tmp_path / "p"


def sides(found):
    """The split of every picture, by its number; several where its copies are apart."""
    where = {}
    for item in found.items:
        where.setdefault(Path(item.path).stem.lstrip("x")[:3], set()).add(item.split)
    return where


def test_near_copies_stay_on_one_side(scattered, caplog):
    caplog.set_level(logging.INFO)
    for seed in range(6):
        found = image_folder.read(str(scattered), division=SplitOptions(val_fraction=0.3, split_seed=seed))
        assert all(len(splits) == 1 for splits in sides(found).values())
    assert any("copies    10 images are copies of another (10 pairs are near copies" in m for m in caplog.messages)
    apart = [image_folder.read(str(scattered), division=SplitOptions(val_fraction=0.3, split_seed=s, doctor="off"))
             for s in range(6)]  # fmt: skip
    assert any(len(splits) > 1 for found in apart for splits in sides(found).values())  # the control


def given(scattered, folder):
    """A split that somebody gave, with the near copies in val."""
    for file in scattered.rglob("*.jpg"):
        split = "val" if file.stem[0] == "x" or file.stem[1:] >= "15" else "train"
        (folder / split / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / split / file.parent.name)
    return folder


def test_a_given_split_that_leaks_is_said_with_the_scores_without(scattered, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = given(scattered, tmp_path / "given")
    run = tl.train(folder, run_dir=tmp_path / "run", **PROBE)
    assert any("10 images are in more than one split" in m for m in caplog.messages)
    assert run.metrics["val/copies"] == 10
    assert any("without the 10 copies of what was trained on" in m for m in caplog.messages)
    said = run.predict(folder / "val")
    right = [Path(source).parent.name == answer for source, answer in zip(said.sources, said.answers, strict=True)
             if not Path(source).name.startswith("x")]  # fmt: skip
    assert len(right) == 10
    right = np.mean(right)
    assert run.metrics["val/without_copies/accuracy"] == pytest.approx(right)
    with pytest.raises(UserError, match=r"10 images are in more than one split.*doctor=warn trains all the same"):
        tl.train(folder, run_dir=tmp_path / "strict", doctor="strict", **PROBE)
    assert not (tmp_path / "strict" / "config.yaml").exists()
    quiet = tl.train(folder, run_dir=tmp_path / "off", doctor="off", **PROBE)
    assert "val/copies" not in quiet.metrics
    assert quiet.metrics["val/loss"] == run.metrics["val/loss"]


def test_strict_stops_at_a_file_that_cannot_be_read(scattered, tmp_path):
    (scattered / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(UserError, match=r"1 unreadable images, the first .*broken\.jpg"):
        tl.train(scattered, run_dir=tmp_path / "run", doctor="strict", **PROBE)
    with pytest.raises(UserError, match=r"doctor=loud.*off, warn, full, strict"):
        SplitOptions(doctor="loud")


def test_what_was_found_is_remembered_until_a_file_changes(scattered, tmp_path, monkeypatch):
    from tl_lightning.data.images import pictures

    names = sorted(p.relative_to(scattered).as_posix() for p in scattered.rglob("*.jpg"))
    first = near_pictures(inspection.look(scattered, names), opened(scattered))
    monkeypatch.setattr(pictures, "near_copies", lambda *_: pytest.fail("compared again"))
    assert near_pictures(inspection.look(scattered, names), opened(scattered)) == first
    shutil.copy(scattered / names[0], scattered / "other.jpg")  # a copy's bytes are no other picture
    assert near_pictures(inspection.look(scattered, [*names, "other.jpg"]), opened(scattered)) == first
    monkeypatch.undo()
    picture(500).save(scattered / "other.jpg")
    assert near_pictures(inspection.look(scattered, [*names, "other.jpg"]), opened(scattered)) == first
