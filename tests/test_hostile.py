"""Odd inputs that are refused before anything is trained; `python -m tests.hostile` tries all of them."""

import subprocess
import sys
from pathlib import Path

from tests.hostile.every import CASES

DOCUMENT = Path(__file__).parents[1] / "docs" / "robustness.md"


def test_what_is_refused_before_training_is_refused_in_one_line():
    """In a process of its own, which is forked for every case: pytest's has threads."""
    command = [sys.executable, "-m", "tests.hostile", "sample"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=DOCUMENT.parents[1], timeout=300)
    assert result.returncode == 0, result.stdout
    assert f"{len([c for c in CASES if c.quick][::4])} of" in result.stdout


def test_every_odd_input_is_documented():
    assert len(CASES) >= 200
    command = [sys.executable, "-m", "tests.hostile", "table"]
    table = subprocess.run(command, capture_output=True, text=True, cwd=DOCUMENT.parents[1], timeout=120).stdout
    assert table.strip() in DOCUMENT.read_text(encoding="utf-8")
