"""A notebook of a few lines that trains, evaluates and predicts, executed as a page."""

import json
import re

import pytest

nbformat = pytest.importorskip("nbformat")
nbconvert = pytest.importorskip("nbconvert")
pytest.importorskip("ipykernel")

CELLS = [
    "import tl_lightning as tl",
    """words = {"backbone.image_size": 32, "data.max_per_class": 12}
run = tl.train("digits", strategy="lp_ft", trainer={"max_epochs": 2}, **words)""",
    "run",
    "run.evaluate('test')['test/accuracy']",
    "run.predict([__import__('numpy').zeros((8, 8, 3), 'uint8')])",
]


def test_a_notebook_of_eight_lines(tmp_path):
    assert sum(len(cell.splitlines()) for cell in CELLS) <= 8
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    where = {"metadata": {"path": str(tmp_path)}}
    done, _ = nbconvert.preprocessors.ExecutePreprocessor(timeout=300, kernel_name="python3").preprocess(
        notebook, where
    )
    page, _ = nbconvert.HTMLExporter().from_notebook_node(done)
    (tmp_path / "page.html").write_text(page)
    _, trained, shown, scored, predicted = (cell.outputs for cell in done.cells)
    text = "".join(o.get("text", "") for o in trained)
    assert re.search(r"epoch   1 .* accuracy", text)
    assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in trained), json.dumps(trained)
    assert "scores of the best weights" in shown[0]["data"]["text/html"]
    assert 0 <= float(scored[-1]["data"]["text/plain"]) <= 1
    assert "<table>" in predicted[-1]["data"]["text/html"]
    assert text.count("\n") < 80  # a bar that is redrawn does not fill the page
