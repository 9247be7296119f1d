"""Images in shards for the tests of them."""

import http.server
import io
import tarfile
import threading
from functools import partial

import pytest

from tests.pictures import write_image
from tl_lightning.data import image_shards
from tl_lightning.data.images.transforms import ImageAugmentation


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
