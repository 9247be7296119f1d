"""Every odd input in a process of its own.

    python -m tests.hostile [sample | table | PATTERN]

`sample`: every fourth of those that are refused before anything is trained. `table`: what shall come of each, as docs/robustness.md has
it. A pattern picks cases by name.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TL_CACHE"] = tempfile.mkdtemp(prefix="tl-cache-")

from tests.hostile.case import Case, Outcome, run  # threads first
from tests.hostile.every import CASES, warm_up


def main() -> None:
    said = sys.argv[1] if len(sys.argv) > 1 else ""
    if said == "table":
        print(table(CASES))
        return
    chosen = sample(CASES) if said == "sample" else [c for c in CASES if re.search(said, c.name)]
    warm_up()
    wrong, slow = 0, []
    for case in chosen:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="tl-odd-", ignore_cleanup_errors=True) as folder:
            outcome = run(case, Path(folder))
        slow.append((time.perf_counter() - began, case.name))
        if outcome.faults:
            wrong += 1
            print(f"{case.name}: {'; '.join(outcome.faults)}\n{_last(outcome)}", flush=True)
    print("slowest:", ", ".join(f"{name} {seconds:.0f} s" for seconds, name in sorted(slow)[-3:]))
    print(f"{len(chosen) - wrong} of {len(chosen)} as documented")
    sys.exit(wrong > 0)


def sample(cases: Sequence[Case]) -> list[Case]:
    """Some of the cases of every kind that take no training."""
    return [case for case in cases if case.quick][::4]


def table(cases: Sequence[Case]) -> str:
    """Name, exit code and what is said, as Markdown."""
    lines = ["| input | exit code | what is said matches |", "| --- | --- | --- |"]
    lines += [f"| {_cell(c.name)} | {c.rc} | `{_cell(c.says)}` |" for c in cases]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "\\n").replace("`", "'")


def _last(outcome: Outcome) -> str:
    return "\n".join(f"    {line[:200]}" for line in outcome.output.splitlines()[-6:])


if __name__ == "__main__":
    main()
