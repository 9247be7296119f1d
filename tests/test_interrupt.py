"""Ctrl-C stops a run wherever it arrives."""

import os
import signal

import pytest
from fsspec.implementations.local import LocalFileSystem
from lightning.pytorch.callbacks import Callback

from tests.tiny import STAGES, tiny_data, tiny_module, tiny_trainer
from tl_lightning.callbacks.interrupt import Interrupt
from tl_lightning.strategies import FeatureExtraction


@pytest.fixture
def listening():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class InExists(Callback):
    """Presses Ctrl-C while fsspec looks for a file, in the second epoch."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch, self.epochs = folder, monkeypatch, 0

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs += 1
        if self.epochs == 2:
            with self.monkeypatch.context() as patch:
                patch.setattr(LocalFileSystem, "info", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
                assert not LocalFileSystem().exists(str(self.folder))  # it does, and the interrupt is gone


def test_an_interrupt_that_a_library_swallows_stops_the_run(photos, tmp_path, monkeypatch, listening):
    data, press = tiny_data(photos), InExists(photos, monkeypatch)
    module = tiny_module(FeatureExtraction().plan(STAGES), data)
    with pytest.raises(SystemExit):  # Lightning's answer
        tiny_trainer(tmp_path, 20, press, Interrupt()).fit(module, datamodule=data)
    assert press.epochs == 2


def test_after_a_run_others_listen_again(photos, tmp_path, listening):
    data = tiny_data(photos)
    module = tiny_module(FeatureExtraction().plan(STAGES), data)
    tiny_trainer(tmp_path, 1, Interrupt()).fit(module, datamodule=data)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
