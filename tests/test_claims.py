"""Every claim of the README stands beside tests that exist."""

import re
from pathlib import Path

from tests.hostile.every import CASES

ROOT = Path(__file__).parents[1]
TESTS = set(
    re.findall(r"^def (test_\w+)", "\n".join(f.read_text() for f in (ROOT / "tests").glob("*.py")), re.MULTILINE)
)
INPUTS = {case.name for case in CASES}


def test_every_claim_names_tests_that_exist():
    rows = [line for line in (ROOT / "docs" / "claims.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 40
    for row in rows:
        claim, held = (cell.strip() for cell in row.strip("|").split(" | "))
        named, scripts = re.findall(r"`(test_\w+)`", held), re.findall(r"`([\w./]+/\w+(?:\.py)?)`", held)
        inputs = re.findall(r"\*(\w+: [^*]+)\*", held)
        assert named or scripts or inputs, claim
        assert set(named) <= TESTS, (claim, set(named) - TESTS)
        assert set(inputs) <= INPUTS, (claim, set(inputs) - INPUTS)
        assert all((ROOT / script).exists() for script in scripts), claim


def test_every_kind_of_odd_input_names_tests_that_exist():
    rows = [
        r for r in (ROOT / "docs" / "robustness.md").read_text().split("## ")[0].splitlines() if r.startswith("| ")
    ][2:]
    assert len(rows) >= 15
    for row in rows:
        held = re.findall(r"`([^`]+)`", row.strip("|").split(" | ")[-1])
        assert len(held) >= 2, row
        assert {h for h in held if h.startswith("test_")} <= TESTS, row
        assert {h for h in held if not h.startswith("test_")} <= INPUTS, (row, [h for h in held if h not in INPUTS])
