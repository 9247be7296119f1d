"""python -m tests.hostile [PATTERN]: every odd input in a process of its own, and docs/robustness.md's table of them."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TL_CACHE"] = tempfile.mkdtemp(prefix="tl-cache-")

from tests.hostile.case import Outcome, run  # threads first
from tests.hostile.every import CASES, warm_up


def main() -> None:
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    warm_up()
    wrong, slow = 0, []
    for case in CASES:
        if not re.search(pattern, case.name):
            continue
        with tempfile.TemporaryDirectory(prefix="tl-odd-", ignore_cleanup_errors=True) as folder:
            began = time.perf_counter()
            outcome = run(case, Path(folder))
            slow += [(time.perf_counter() - began, case.name)]
            if slow[-1][0] > 10:
                print(f"{case.name}: {slow[-1][0]:.0f} s", flush=True)
        if outcome.faults:
            wrong += 1
            print(f"{case.name}: {'; '.join(outcome.faults)}\n{_last(outcome)}", flush=True)
    print("slowest:", ", ".join(f"{name} {seconds:.0f} s" for seconds, name in sorted(slow)[-5:]))
    print(f"{len(CASES) - wrong} of {len(CASES)} as documented")
    sys.exit(wrong > 0)


def _last(outcome: Outcome) -> str:
    return "\n".join(f"    {line[:200]}" for line in outcome.output.splitlines()[-6:])


if __name__ == "__main__":
    main()
