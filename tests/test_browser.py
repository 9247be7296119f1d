"""Pages in a browser: on a phone and a desktop, light and dark, by keyboard alone, by the rules of accessibility."""

import io
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

import tl_lightning as tl
from tests.probe import PROBE
from tests.texts import write_texts

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed here")
SIZES = {"phone": (390, 844), "desktop": (1280, 800)}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens an address; what the page complains of, or asks of other places, is kept in `page.faults`."""
    contexts = []

    def opened(url, size="desktop", scheme="light", **options):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.faults = []
        page.on("console", lambda said: page.faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        home = url.split("#")[0].rsplit("/", 1)[0]
        page.on("request", lambda r: None if r.url.startswith((home, "data:", "blob:")) else page.faults.append(r.url))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def reports(run, shades, tmp_path_factory):
    """A report of one run, and one of two."""
    words = {**PROBE, "strategy": "lp_ft", "trainer.max_epochs": 2, "callbacks": "default", "callbacks.progress": None,
             "logger": "default"}  # fmt: skip
    trained = tl.train(shades, run_dir=tmp_path_factory.mktemp("runs") / "trained", **words)
    return {"one": trained.report().as_uri(), "two": trained.report_with(run).as_uri()}


@pytest.fixture(scope="module")
def served():
    """Starts servers for runs, which end with the module."""
    servers = []

    def start(run, *words, **env):
        command = [sys.executable, "-m", "tl_lightning", "serve", f"run={run.path}", "port=0", *words]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
        servers.append(server)
        return server.stdout.readline().split()[0]

    yield start
    for server in servers:
        server.terminate()
        server.wait(20)


def luminance(page, what):
    return page.evaluate(
        """(what) => { const c = getComputedStyle(document.body)[what].match(/[0-9.]+/g).map(Number);
                       return c.slice(0, 3).reduce((a, b) => a + b) / 765; }""", what)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", ["one", "two"])
def test_reports_fit_and_are_whole(reports, open_page, which, size, scheme):
    page = open_page(reports[which], size, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate("[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 50)")
    assert (luminance(page, "backgroundColor") < 0.2) == (scheme == "dark")
    assert abs(luminance(page, "backgroundColor") - luminance(page, "color")) > 0.6
    assert page.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["one", "two"])
def test_reports_keep_the_rules_of_accessibility(reports, open_page, which, scheme):
    page = open_page(reports[which], scheme=scheme, bypass_csp=True)  # the checker is a script, which the page forbids
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []


def test_the_keyboard_alone_reaches_everything(reports, open_page):
    page = open_page(reports["one"])
    wanted = page.locator("a, summary, [tabindex='0']")
    number = wanted.count()
    assert number > 15
    page.evaluate("document.querySelectorAll('details').forEach(d => d.removeAttribute('open'))")
    reached, opened = set(), 0
    for _ in range(2 * number):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            """() => { const e = document.activeElement, o = getComputedStyle(e);
                       return [[...document.querySelectorAll("a, summary, [tabindex='0']")].indexOf(e), e.tagName,
                               o.outlineStyle, parseFloat(o.outlineWidth)]; }"""
        )
        if seen[0] in reached or seen[0] < 0:
            break
        reached.add(seen[0])
        assert seen[2] != "none" and seen[3] >= 2, seen
        if seen[1] == "SUMMARY":
            page.keyboard.press("Enter")  # opened, it leads on to what it held
            opened += 1
    assert len(reached) == number
    assert page.locator("details[open]").count() == opened > 2
    page.locator("nav a").first.focus()
    page.keyboard.press("Enter")
    assert page.url.endswith("#scores")


def test_on_paper_nothing_is_missing(reports, open_page):
    page = open_page(reports["one"])
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert len(page.pdf()) > 20_000


@pytest.fixture(scope="module")
def address(served, run):
    return served(run)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_images_are_answered_on_the_page(address, run, shades, tmp_path, open_page, size, scheme):
    photo = sorted((shades / "dark").glob("*.png"))[0]
    (tmp_path / "<b>no image.png").write_text("text")
    page = open_page(address, size, scheme)
    page.locator("#images").wait_for()
    page.set_input_files("#files", [photo, tmp_path / "<b>no image.png"])
    page.locator(".answer").nth(1).wait_for()
    first, second = (page.locator(".answer").nth(i).inner_text() for i in (0, 1))
    assert first.split("\n")[1:].count(run.predict(photo).answers[0]) >= 1 and "trained on" in first
    assert "<b>no image.png" in second and "cannot be read" in second
    assert page.locator(".answer").first.locator("img").count() in (1, 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert "2 answered" in page.locator("#state").inner_text()
    assert page.faults == []


def test_dropped_and_pasted_images(address, shades, open_page):
    page = open_page(address)
    page.locator("#images").wait_for()
    file = io.BytesIO()
    Image.open(sorted((shades / "light").glob("*.png"))[0]).save(file, "PNG")
    for event, key in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        before = page.locator(".answer").count()
        page.evaluate(
            """([bytes, event, key]) => { const data = new DataTransfer();
                 data.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
                 const kind = event === "drop" ? DragEvent : ClipboardEvent;
                 document.dispatchEvent(new kind(event, {[key]: data, bubbles: true, cancelable: true})); }""",
            [list(file.getvalue()), event, key],
        )
        page.locator(".answer").nth(before).wait_for()


def test_the_page_keeps_the_rules_of_accessibility(address, shades, open_page):
    page = open_page(address, bypass_csp=True)
    page.locator("#images").wait_for()
    page.set_input_files("#files", sorted((shades / "dark").glob("*.png"))[0])
    page.locator(".answer").wait_for()
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []


def test_the_address_holds_the_token(served, run, shades, open_page):
    whole = served(run, TL_TOKEN="ab+cd/ef==")
    bare, _, token = whole.partition("#token=")
    assert token == "ab%2Bcd%2Fef%3D%3D"
    photo = sorted((shades / "dark").glob("*.png"))[0]
    page = open_page(whole)
    page.locator("#images").wait_for()
    page.set_input_files("#files", photo)
    page.locator(".answer").wait_for()
    page = open_page(bare)
    page.get_by_text("a token is needed").wait_for()
    assert not page.locator("#images").is_visible() and "dark" not in page.content()


def test_texts_by_keyboard_alone(served, model, tmp_path, open_page):
    pytest.importorskip("transformers")
    file = write_texts(tmp_path / "texts.csv")
    options = {"backbone": "text", "backbone.name": str(model), "backbone.length": 16, "strategy": "linear_probe",
               "data.batch_size": 4, "trainer": "cpu"}  # fmt: skip
    run = tl.train(file, run_dir=tmp_path / "run", **options)
    page = open_page(served(run), "phone")
    page.locator("#texts").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("good the <i>fox</i>")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".answer").wait_for()
    said = page.locator(".answer").inner_text()
    assert run.predict("good the <i>fox</i>").answers[0] in said and "good the <i>fox</i>" in said
    assert page.locator(".answer mark").count() > 2
    page.focus("#text")
    page.keyboard.press("Control+Enter")
    page.locator(".answer").nth(1).wait_for()
    assert page.faults == []
