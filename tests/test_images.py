"""Every format becomes the right RGB: compared with the colours that were put in."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tl_lightning.data.images.decode import load_rgb
from tl_lightning.inputs import Reading

RED = (200, 30, 40)


def save(image, path, **options):
    image.save(path, **options)
    return path


def middle(path):
    image = load_rgb(path)
    assert image.mode == "RGB"
    return np.asarray(image)[image.height // 2, image.width // 2].astype(int)


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"])
def test_formats(extension, tmp_path):
    path = save(Image.new("RGB", (24, 16), RED), tmp_path / f"a.{extension}")
    assert np.abs(middle(path) - RED).max() <= 6


def test_wrong_extension_is_read_by_content(tmp_path):
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert tuple(middle(tmp_path / "a.jpg")) == RED


def test_grey(tmp_path):
    assert tuple(middle(save(Image.new("L", (8, 8), 77), tmp_path / "a.png"))) == (77, 77, 77)


def test_palette(tmp_path):
    image = Image.new("RGB", (8, 8), RED).quantize(4)
    assert image.mode == "P"
    assert np.abs(middle(save(image, tmp_path / "a.png")) - RED).max() <= 1


def test_palette_with_transparency_shows_white(tmp_path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*RED, 0, 0, 0])
    assert tuple(middle(save(image, tmp_path / "a.png", transparency=0))) == (255, 255, 255)


def test_cmyk_jpeg(tmp_path):
    image = Image.new("RGB", (16, 16), RED).convert("CMYK")
    assert np.abs(middle(save(image, tmp_path / "a.jpg", quality=95)) - RED).max() <= 8


@pytest.mark.parametrize("value", [0, 30000, 65535])
def test_sixteen_bits_are_scaled_not_clipped(value, tmp_path):
    path = save(Image.fromarray(np.full((8, 8), value, np.uint16)), tmp_path / "a.png")
    assert tuple(middle(path)) == (round(value / 257),) * 3


def test_sixteen_bit_tiff_and_float_tiff(tmp_path):
    path = save(Image.fromarray(np.full((8, 8), 30000, np.uint16)), tmp_path / "a.tif")
    assert tuple(middle(path)) == (117,) * 3
    path = save(Image.fromarray(np.full((8, 8), 0.5, np.float32)), tmp_path / "b.tif")
    assert tuple(middle(path)) == (128,) * 3


@pytest.mark.parametrize(("alpha", "expected"), [(255, RED), (0, (255, 255, 255)), (128, (227, 142, 147))])
def test_alpha_lies_on_white(alpha, expected, tmp_path):
    assert np.abs(middle(save(Image.new("RGBA", (8, 8), (*RED, alpha)), tmp_path / "a.png")) - expected).max() <= 1


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (20, 10), (0, 0, 0))
    image.paste(RED, (0, 0, 10, 10))  # red on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to view"
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = load_rgb(tmp_path / "a.jpg")
    assert upright.size == (10, 20)
    pixels = np.asarray(upright).astype(int)
    assert np.abs(pixels[3, 5] - RED).max() < 20  # left became top
    assert pixels[16, 5].max() < 20


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in (RED, (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.abs(middle(tmp_path / "a.gif") - RED).max() <= 2


def test_truncated_raises(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue()[:-800])
    with pytest.raises(OSError, match="truncated"):
        load_rgb(tmp_path / "a.jpg")


def test_damaged_exif_does_not_cost_the_image(tmp_path, monkeypatch):
    import struct

    from PIL import ImageOps

    def broken(image):
        raise struct.error("unpack requires a buffer")

    path = save(Image.new("RGB", (8, 8), RED), tmp_path / "a.png")
    monkeypatch.setattr(ImageOps, "exif_transpose", broken)
    assert tuple(middle(path)) == RED


def png_of_one_bit(side):
    """A small file of many pixels."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_an_icon_of_many_megapixels_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    """Pillow decodes an icon's pictures while it opens the file."""
    small, large = png_of_one_bit(16), png_of_one_bit(8000)
    entries = b"".join(struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 1, len(p), at)
                       for p, at in ((small, 38), (large, 38 + len(small))))  # fmt: skip
    icon = b"\0\0\1\0\2\0" + entries + small + large
    (tmp_path / "a.png").write_bytes(icon)
    monkeypatch.setattr(Image, "open", lambda *given, **options: pytest.fail("it was opened"))
    for file in (tmp_path / "a.png", io.BytesIO(icon)):
        with pytest.raises(ValueError, match="8000 x 8000 are 64 megapixels, more than"):
            load_rgb(file, 32, Reading(max_megapixels=50))


def test_a_progressive_jpeg_counts_whole(tmp_path):
    """All of its coefficients are held in memory, however small it is decoded; of others a fraction is."""
    for progressive in (False, True):
        Image.new("RGB", (3000, 2000), RED).save(tmp_path / f"{progressive}.jpg", progressive=progressive)
    assert max(load_rgb(tmp_path / "False.jpg", 32, Reading(max_megapixels=5)).size) < 3000
    with pytest.raises(ValueError, match="3000 x 2000 are 6 megapixels"):
        load_rgb(tmp_path / "True.jpg", 32, Reading(max_megapixels=5))
