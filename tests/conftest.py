"""One thread, no network, a cache of its own, no reports: set before torch is imported."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["TL_REPORT"] = "false"  # some seconds that only the tests of it spend

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.image_tables import images  # noqa: F401
from tests.pictures import write_image
from tests.shards import input, samples, served, shards  # noqa: F401
from tl_lightning.config.compose import composed
from tl_lightning.config.settings import Settings, settings_of


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Refuses connections to other machines, and keeps caches out of the user's home."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"the network is off in tests: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("TL_CACHE", str(cache))
    monkeypatch.setenv("TORCH_HOME", str(cache / "torch"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes, 12 dark and 12 light images."""
    root = tmp_path / "photos"
    for i in range(12):
        write_image(root / "dark" / f"{i:02d}.png", 60, i)
        write_image(root / "light" / f"{i:02d}.png", 190, 100 + i)
    return root


Configure = Callable[..., Settings]


@pytest.fixture
def configure(photos: Path, tmp_path: Path) -> Configure:
    """Composes a small, quick run on `photos`: configure("strategy=lp_ft", run="a")."""

    def make(*overrides: str, run: str = "run") -> Settings:
        small = [
            "data=image_folder", f"data.root={photos}", "data.batch_size=4", "data.workers=0",
            "trainer=cpu", "trainer.max_epochs=1", "++callbacks.progress=null",
        ]  # fmt: skip
        return settings_of(composed([*small, *overrides], str(tmp_path / run)))

    return make


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a tiny language model."""
    from tests.zoo import save_language_model

    save_language_model(tmp_path / "model", weights=True)
    return tmp_path / "model"


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    """Three noisy classes that cannot be told apart without mistakes, several images of each of 30 patients."""
    root, random = tmp_path_factory.mktemp("shades"), np.random.default_rng(0)
    for k, name in enumerate(("dark", "grey", "light")):
        for patient in range(10):
            level = 90 + 30 * k + random.normal() * 18
            for i in range(5):
                write_image(root / name / f"patient{k}{patient}_{i}.png", int(np.clip(level, 20, 235)), patient * 5 + i)
    return root


@pytest.fixture(scope="module")
def run(shades, tmp_path_factory):
    """A finished run on them, of which a module may do what it likes."""
    import tl_lightning as tl
    from tests.probe import PROBE

    return tl.train(shades, run_dir=tmp_path_factory.mktemp("runs") / "run", **PROBE)


@pytest.fixture(scope="module")
def client(run):
    """Talks to a server of that run, for requests of up to 1 MB and images of up to 1 megapixel."""
    from starlette.testclient import TestClient

    with TestClient(run.app(max_mb=1, max_megapixels=1)) as client:
        yield client


@pytest.fixture(scope="module")
def photo(shades):
    """One of its images."""
    return sorted((shades / "grey").glob("*.png"))[0]
