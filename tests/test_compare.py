"""The table of strategies: means, intervals and regret by hand."""

import importlib.util
import json
import sys

import pytest
from scipy import stats

from tests.commands import REPO
from tl_lightning.config.compose import composed


@pytest.fixture
def compare(monkeypatch):
    path = REPO / "benchmarks" / "compare_strategies.py"
    spec = importlib.util.spec_from_file_location("compare_strategies", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compare_strategies", module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_intervals_and_regret(compare, tmp_path):
    accuracies = {"a x 10": {"one": [0.5, 0.7], "two": [0.8, 0.8], "auto": [0.7, 0.7]},
                  "b x all": {"one": [0.9, 0.9], "two": [0.4, 0.6], "auto": [0.9, 0.9]}}  # fmt: skip
    known = {f"{cell} {method} {seed}": {"accuracy": value} for cell, row in accuracies.items()
             for method, values in row.items() for seed, value in enumerate(values)}  # fmt: skip
    kept = tmp_path / "scores.json"
    kept.write_text(json.dumps(known))
    text = compare.tables(compare.Scores(kept))
    assert "| a x 10 | 60.0 ±127.1 | **80.0 ±0.0** | 70.0 ±0.0 |" in text  # t(0.975, 1) = 12.706, times 10
    regrets = text.split("fixed one |\n| --- | --- |\n")[1].splitlines()
    assert regrets == ["| auto | 5.00 |", "| one | 10.00 |", "| two | 20.00 |"]
    low, high = stats.t.interval(0.95, 4, 3.0, stats.sem([1, 2, 3, 4, 5]))
    assert compare.interval([1, 2, 3, 4, 5]) == (3.0, pytest.approx((high - low) / 2))
    compare.picture(compare.Scores(kept), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5_000


def test_every_method_and_every_cell_can_be_composed(compare, tmp_path, photos):
    assert (len(compare.CELLS), len(compare.METHODS)) == (8, 16)
    cell, method = next(iter(compare.CELLS)), next(iter(compare.METHODS))
    for one, other in {*((cell, m) for m in compare.METHODS), *((c, method) for c in compare.CELLS)}:
        composed(compare.words(one, other, 0, tmp_path, "weights.safetensors"))
