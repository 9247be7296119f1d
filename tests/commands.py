"""Commands as a user types them: true processes, their output, their exit code."""

import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parents[1]
QUICK = ["backbone=mobilenet_v2", "backbone.weights=null", "backbone.image_size=32", "data.batch_size=4",
         "data.workers=0", "trainer=cpu", "trainer.max_epochs=1"]  # fmt: skip


def tl(*arguments, cwd, program=(sys.executable, str(REPO / "train.py")), env=None):
    return subprocess.run(
        [*program, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, env={**os.environ, **(env or {})}
    )


def refused(result, *fragments):
    assert result.returncode == 1, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for fragment in fragments:
        assert fragment in lines[0]
