"""The report of a run: one file, whole, safe to open, of every kind of run."""

import re
from html.parser import HTMLParser

import pytest

import tl_lightning as tl
from tests.conftest import write_image
from tests.texts import of_every_task
from tl_lightning.cli.verbs import act

SMALL = {"backbone": "mobilenet_v2", "backbone.weights": "formula", "backbone.image_size": 64, "data.batch_size": 4,
         "data.workers": 0, "callbacks.progress": None, "trainer": "cpu"}  # fmt: skip
EMPTY = {"br", "img", "meta", "link", "hr", "input"}


class Page(HTMLParser):
    """Tags in their order, with what refers to other places, and what people read."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.refers, self.text, self.anchors = [], [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        self.tags.append((tag, known))
        self.anchors += [known["id"]] if "id" in known else []
        self.refers += [known[key] for key in ("src", "href", "xlink:href") if key in known]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page_of(run):
    return Page(run.report().read_text())


@pytest.fixture
def strange(tmp_path):
    """Classes of a name that is HTML and of one that is mathematics, which nobody tells apart without mistakes."""
    for name in ("<script>alert(1)</script>", "$x_1$ & co"):
        for i in range(16):
            write_image(
                tmp_path / "photos" / name.replace("/", "-") / f"{i}<b>.png", 120, i + 100 * len(name), (70, 64)
            )
    return tmp_path / "photos"


def test_the_page_is_whole_and_needs_nothing_else(strange, tmp_path, capsys):
    run = tl.train(strange, run_dir=tmp_path / "run", strategy="lp_ft", **SMALL, **{"trainer.max_epochs": 2})
    act("report", [f"run={run.path}"])
    assert capsys.readouterr().out.strip().endswith(f"{run.path}/report.html")
    text = (run.path / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert all(place.startswith(("#", "data:image/")) for place in page.refers)
    assert {place[1:] for place in page.refers if place[0] == "#"} <= set(page.anchors)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)<-script>" in page.text
    assert "$x_1$ & co" in page.text
    assert "default-src 'none'" in text
    assert re.search(r"@media \(prefers-color-scheme: dark\)", text) and 'name="viewport"' in text
    for section in ("Scores", "Training", "Answers", "Classes", "Worst mistakes", "Typical ones", "Data",
                    "How it was made"):  # fmt: skip
        assert section in page.text
    evaluation = run.evaluate()
    assert f"{evaluation['val/accuracy']:.3f}" in page.text
    assert evaluation.mistakes[0]["sample"] in page.text
    pictures = [known for tag, known in page.tags if tag == "img"]
    shown = min(12, len(evaluation.mistakes)) + len(evaluation.findings.typical)
    assert len(pictures) == shown and all(p["alt"] for p in pictures)
    # loss, scores, rates, timeline, confusion, reliability, classes
    assert sum(tag == "svg" for tag, _ in page.tags) == 7
    regions = [known for _, known in page.tags if known.get("role") == "region"]
    assert regions and all(known["tabindex"] == "0" and known["aria-label"] for known in regions)


def test_a_solved_head_has_no_epochs(photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "run", strategy="linear_probe", **SMALL)
    page = page_of(run)
    assert "there were no epochs" in page.text
    assert page.open == []


@pytest.mark.parametrize("label", ["word", "score", "several"])
def test_texts_of_every_task(model, tmp_path, label):
    pytest.importorskip("transformers")
    file, options = of_every_task(tmp_path, model, label)
    run = tl.train(file, run_dir=tmp_path / "run", **options)
    page = page_of(run)
    assert page.open == []
    assert ("Values" if label == "score" else "Classes") in page.text
    assert "Scores" in page.text
