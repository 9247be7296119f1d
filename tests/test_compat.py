"""torchvision beside a torch that cannot load its operators, and beside one that can."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from tl_lightning import compat


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("first", ["torchvision", "lightning", "torchmetrics"])
def test_whatever_imports_torchvision_first_works(first):
    code = f"import tl_lightning, {first}, torchvision; torchvision.models.resnet18(); print('ok')"
    assert run(code).stdout.strip() == "ok"


@pytest.mark.parametrize("first", ["torchvision", "lightning", "torchmetrics"])
def test_in_this_environment_it_works_without_the_package(first, tmp_path):
    """Where the package is installed (make install), by the .pth file beside it."""
    result = subprocess.run(
        [sys.executable, "-c", f"import {first}, torchvision; torchvision.models.resnet18(); print('ok')"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert result.stdout.strip() == "ok", result.stderr


def test_the_hook_imports_nothing_at_the_start_of_a_program():
    code = (
        "import sys; print([m for m in ('torch', 'typing', 'tl_lightning', 'tl_lightning.compat') if m in sys.modules])"
    )
    assert run(code).stdout.strip() == "[]"


def test_the_finder_leaves_after_its_work():
    code = (
        "import sys, tl_lightning;"
        "count = lambda: sum(getattr(f, '__name__', '') == 'BeforeTorchvision' for f in sys.meta_path);"
        "a = count(); import torchvision; print(a, count())"
    )
    assert run(code).stdout.strip() == "1 0"


def test_operators_that_load_are_left_alone(monkeypatch):
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)  # as where the library and torch match
    monkeypatch.setattr(torch.library, "Library", lambda *a: pytest.fail("defined over real operators"))
    assert compat.define_missing_operators() is False
    assert [Path(p).parent for p in loaded] == [Path(torchvision.__file__).parent]


def test_what_is_missing_here_is_defined_once():
    """In this process torchvision is imported: either its operators loaded, or exactly the two are defined."""
    assert hasattr(torch.ops.torchvision, "nms")
    assert compat.define_missing_operators() is False  # nothing is missing any more
