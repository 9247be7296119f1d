"""How the time of a leaderboard grows with the number of runs.

python benchmarks/leaderboard.py
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from tl_lightning.jobs.leaderboard import leaderboard
from tl_lightning.jobs.leaderboard_page import write


def main() -> None:
    """Print the table."""
    print("| runs | seconds to read and fold | seconds to write |\n| --- | --- | --- |")
    for number in (20, 200, 2000):
        with tempfile.TemporaryDirectory() as scratch:
            for i in range(number):
                folder = Path(scratch, str(i))
                (folder / ".hydra").mkdir(parents=True)
                words = [f"backbone=net{i % 20}", f"strategy=s{i // 20 % 10}", f"seed={i // 200}"]
                (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in words))
                metrics = {f"val/recall/{k}": 0.5 for k in range(20)}
                metrics |= {"val/accuracy": 0.5 + i % 7 / 100, "seconds/total": 10 + i % 13}
                (folder / "metrics.json").write_text(json.dumps({"monitor": "val/accuracy", **metrics}))
            began = time.perf_counter()
            board = leaderboard([Path(scratch)])
            read = time.perf_counter() - began
            write(board, Path(scratch))
            print(f"| {number} | {read:.1f} | {time.perf_counter() - began - read:.1f} |")


if __name__ == "__main__":
    main()
