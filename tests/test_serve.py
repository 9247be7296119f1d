"""A model behind HTTP: answers are the run's own, nonsense is refused, nobody else comes in."""

import io
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import tl_lightning as tl
from tests.commands import REPO
from tests.texts import write_texts
from tl_lightning.errors import UserError
from tl_lightning.serving.batching import Batches, Full

pytest.importorskip("fastapi")


@pytest.fixture(scope="module")
def client(run):
    with TestClient(run.app(max_mb=1, max_megapixels=1)) as client:
        yield client


@pytest.fixture(scope="module")
def photo(shades):
    return sorted((shades / "grey").glob("*.png"))[0]


def test_answers_are_the_runs(client, run, shades):
    paths = [sorted((shades / name).glob("*.png"))[i] for name in ("dark", "grey", "light") for i in (0, 20, 40)]
    expected = run.predict(paths)
    said = client.post("/predict_batch", files=[("files", (p.name, p.read_bytes())) for p in paths])
    assert said.status_code == 200
    assert [a["answer"] for a in said.json()] == list(expected.answers)
    assert [a["source"] for a in said.json()] == [p.name for p in paths]
    found = [[a["numbers"][name] for name in run.model.task.outputs] for a in said.json()]
    np.testing.assert_allclose(found, expected.probabilities, atol=1e-4)
    one = client.post("/predict", files={"file": (paths[0].name, paths[0].read_bytes())}).json()
    assert one["answer"] == expected.answers[0] and one["error"] is None and one["explanation"] is None


def test_what_the_run_does_not_know(client, photo):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    noise[:32] = noise[:32] // 8
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    strange, known = (client.post("/predict", files={"file": ("a.png", content)}).json()
                      for content in (file.getvalue(), photo.read_bytes()))  # fmt: skip
    assert strange["distance"] > known["distance"]
    assert strange["unknown"] is True and known["unknown"] is False


def test_several_samples_each_with_its_own_error(client, photo):
    said = client.post("/predict_batch", files=[("files", ("a.png", photo.read_bytes())), ("files", ("b.png", b"no"))])
    assert said.status_code == 200
    good, bad = said.json()
    assert good["answer"] and not good["error"]
    assert bad["answer"] is None and "cannot be read" in bad["error"]


def png(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    "status, said, request_",
    [
        (422, "cannot be read", {"files": {"file": ("a.jpg", b"\xff\xd8\xff but no more")}}),
        (422, "is a PDF", {"files": {"file": ("a.jpg", b"%PDF-1.7")}}),
        (422, "megapixels", {"files": {"file": ("a.png", png(1100, 1000))}}),
        (422, "file", {"files": {"image": ("a.png", png(9, 9))}}),
        (422, "file", {"content": b"{}", "headers": {"Content-Type": "application/json"}}),
        (400, "", {"content": b"nothing", "headers": MULTIPART}),
        (413, "1 MB", {"files": {"file": ("a.png", bytes(1_100_000))}}),
        (413, "1 MB", {"content": PART + bytes(3_000_000), "headers": MULTIPART}),
    ],
)
def test_nonsense_is_refused(client, status, said, request_):
    answer = client.post("/predict", **request_)
    assert answer.status_code == status
    assert said in answer.text


def test_too_many_at_once(client):
    files = [("files", (f"{i}.png", b"x")) for i in range(300)]
    assert client.post("/predict_batch", files=files).status_code == 413


def test_other_paths_and_ways(client):
    assert client.get("/../../etc/passwd").status_code == 404
    assert client.get("/predict").status_code == 405


def test_a_token_where_one_is_asked_for(run, photo):
    files = {"file": ("a.png", photo.read_bytes())}
    with TestClient(run.app(token="öffne")) as client:
        for path in ("/metrics", "/latency", "/about"):
            assert client.get(path).status_code == 401
        assert client.post("/predict", files=files).status_code == 401
        wrong = {"Authorization": "Bearer nothing"}
        assert client.post("/predict", files=files, headers=wrong).status_code == 401
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/").status_code == 200
    with TestClient(run.app(token="open")) as client:
        right = {"Authorization": "Bearer open"}
        assert client.post("/predict", files=files, headers=right).status_code == 200


def test_without_the_token_nothing_is_read(run):
    with TestClient(run.app(token="open", unknown=False)) as client:
        for content in (bytes(3_000_000), b"broken"):
            answer = client.post("/predict", content=content, headers=MULTIPART)
            assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        assert client.get("/openapi.json").status_code == client.get("/docs").status_code == 200


def test_addresses_of_this_machine(run):
    for host in ("127.0.0.2", "::1"):
        base = f"http://[{host}]" if ":" in host else f"http://{host}"
        with TestClient(run.app(host=host, unknown=False), base_url=base) as client:
            assert client.get("/health").status_code == 200


def test_a_server_has_a_network_of_its_own(run, photo):
    """Whatever else is done with the run, be it to move its network, the server goes on."""
    app = run.app(unknown=False)
    files = {"file": ("a.png", photo.read_bytes())}
    with TestClient(app) as client:
        before = client.post("/predict", files=files).json()
        run.model.network[1].to("meta")
        try:
            assert client.post("/predict", files=files).json() == before
        finally:
            del run.__dict__["model"]  # read anew by whoever asks next
    with TestClient(app) as client:  # begun again
        assert client.post("/predict", files=files).json() == before


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape"])
def test_names_that_are_no_unicode(client, photo, charset):
    name = {"utf-7": "+2AA-.png", "unicode_escape": "\\ud800.png"}[charset]
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    start = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    for content in (photo.read_bytes(), b"no image"):
        answer = client.post("/predict", content=start + content + b"\r\n--x--\r\n", headers=headers)
        assert answer.status_code in (200, 422)
    field = start.replace(f'; filename="{name}"'.encode(), b"") + name.encode() + b"\r\n--x--\r\n"
    answer = client.post("/predict", content=field, headers=headers)
    assert 400 <= answer.status_code < 500


def test_a_page_from_elsewhere_cannot_reach_it_by_another_name(run):
    with TestClient(run.app(host="127.0.0.1"), base_url="http://attacker.example") as client:
        assert client.get("/").status_code == 400
    with TestClient(run.app(host="127.0.0.1"), base_url="http://localhost:8000") as client:
        assert client.get("/").status_code == 200


def test_figures_for_people_and_for_prometheus(run, photo):
    with TestClient(run.app(unknown=False)) as client:
        assert client.get("/latency").json() == {}
        for _ in range(3):
            client.post("/predict", files={"file": ("a.png", photo.read_bytes())})
        client.post("/predict", files={"file": ("a.png", b"no")})
        client.get("/no/such/path")
        assert set(client.get("/latency").json()) == {"p50", "p95", "p99"}
        lines = client.get("/metrics").text.splitlines()
        assert 'tl_requests_total{path="/predict",status="200"} 3.0' in lines
        assert 'tl_requests_total{path="/predict",status="422"} 1.0' in lines
        assert 'tl_requests_total{path="other",status="404"} 1.0' in lines
        assert "tl_batch_size_sum 3.0" in lines
        assert "tl_waiting 0.0" in lines


def test_the_page_and_its_api_need_no_other_server(client):
    page, docs = client.get("/"), client.get("/docs").text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for text in (page.text, docs, client.get("/page.css").text, client.get("/page.js").text):
        assert not re.search(r"https?://(?!127\.0\.0\.1)", text.replace("http://www.w3.org", ""))
    assert client.get("/openapi.json").json()["paths"].keys() >= {"/predict", "/predict_batch", "/metrics", "/health"}


@pytest.mark.parametrize("label", ["word", "score", "several"])
def test_texts_of_every_task(model, tmp_path, label):
    pytest.importorskip("transformers")
    rows = [(f"{('good', 'awful')[i % 2]} number {i}", ("good", "awful")[i % 2], i % 7, f"a|{'bc'[i % 2]}")
            for i in range(40)]  # fmt: skip
    file = write_texts(tmp_path / "texts.csv", rows, ("text", "word", "score", "several"))
    options = {"backbone": "text", "backbone.name": str(model), "backbone.length": 16, "strategy": "linear_probe",
               "data.batch_size": 4, "trainer": "cpu", "data.text": "text", "data.label": label}  # fmt: skip
    if label == "several":
        options["data.separator"] = "bar"
    run = tl.train(file, run_dir=tmp_path / "run", **options)
    texts = ["good number 5", "awful", "a text that is much longer than the others are"]
    with TestClient(run.app()) as client:
        said = client.post("/predict_batch", json={"texts": texts})
        expected = run.predict(texts)
        for answer, alone, numbers in zip(said.json(), expected.answers, expected.probabilities, strict=True):
            assert answer["answer"] == (pytest.approx(alone, abs=1e-4) if label == "score" else alone)
            assert list(answer["numbers"].values()) == pytest.approx(numbers.tolist(), abs=1e-4)
        explained = client.post("/predict?explain=true", json={"text": texts[0]}).json()["explanation"]
        assert re.match(r"\w+:[+-][01]\.\d\d", explained)
        half = client.post("/predict", content=b'{"text": "\\ud800"}', headers={"Content-Type": "application/json"})
        assert half.status_code == 422 and "half of a character" in half.text
        assert client.post("/predict", json={"text": 5}).status_code == 422
        for body in (b'{"text": NaN}', b'{"text": 1e999}', b'{"texts": ["\\ud800"]}', b'{"a": "\\ud800"}', b'"\xff"'):
            refused = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
            assert 400 <= refused.status_code < 500, body
        long, short = "a text of many words " * 20, "good"
        with ThreadPoolExecutor(4) as pool:  # a tokenizer is told anew whether to cut
            statuses = list(pool.map(lambda i: client.post("/predict", json={"text": (long, short)[i % 2]}).status_code,
                                     range(80)))  # fmt: skip
        assert set(statuses) == {200}
        assert client.post("/predict_batch", json={"texts": []}).status_code == 422
        deep = client.post("/predict", content=b"[" * 100_000, headers={"Content-Type": "application/json"})
        assert 400 <= deep.status_code < 500


def test_samples_that_come_together_are_answered_together():
    sizes, may = [], threading.Event()

    def answer(samples):
        may.wait(10)
        sizes.append(len(samples))
        if "bad" in samples:
            raise ValueError("bad")
        return [s.upper() for s in samples]

    batches = Batches(answer, most=4, room=6)
    with pytest.raises(Full):
        batches.submit("too early")
    batches.start()
    first = batches.submit("a")
    while batches.waiting:
        time.sleep(0.001)
    others = [batches.submit(name) for name in "bcdefg"]
    with pytest.raises(Full):
        batches.submit("h")
    may.set()
    assert [f.result(10) for f in (first, *others)] == list("ABCDEFG")
    assert sizes == [1, 4, 2]
    with pytest.raises(ValueError, match="bad"):
        batches.submit("bad").result(10)
    assert batches.submit("i").result(10) == "I"  # the thread goes on
    waiting = [batches.submit(name) for name in "jklmno"]
    batches.close()
    assert [f.result(0) for f in waiting] == list("JKLMNO")  # what was taken is answered
    with pytest.raises(Full):
        batches.submit("too late")
    batches.start()
    assert batches.submit("p").result(10) == "P"
    batches.close()


@pytest.mark.parametrize(
    "options, said",
    [
        ({"engine": "fast"}, "engine=fast is unknown"),
        ({"max_mb": 0}, "max_mb=0 must be a number"),
        ({"unknown": "often"}, "unknown=often is unknown"),
    ],
)
def test_options_that_cannot_be_meant(run, options, said):
    with pytest.raises(UserError, match=re.escape(said)):
        run.app(**options)


def test_as_a_user_starts_and_stops_it(run, photo, tmp_path):
    command = [sys.executable, str(REPO / "scripts" / "serve.py"), f"run={run.path}", "port=0"]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().split()[0]
        answer = httpx.post(url + "predict", files={"file": ("a.png", photo.read_bytes())})
        assert answer.json()["answer"] == run.predict(photo).answers[0]
        port = int(url.rsplit(":", 1)[1].strip("/"))
        for broken in (b"\0\1\2\r\n\r\n", b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), 5) as raw:
                raw.sendall(broken)
                assert raw.recv(100).startswith(b"HTTP/1.1 400")
        with pytest.raises(UserError, match=f"port={port} cannot be had"):
            run.serve(port=port)
    finally:
        server.terminate()
        _, error = server.communicate(timeout=20)
    assert "Traceback" not in error


def test_other_machines_need_the_token_that_is_printed(run, photo, tmp_path, monkeypatch):
    monkeypatch.delenv("TL_TOKEN", raising=False)
    command = [sys.executable, "-m", "tl_lightning", "serve", f"run={run.path}", "port=0", "host=0.0.0.0"]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        url, token = server.stdout.readline().split()[0].replace("0.0.0.0", "127.0.0.1").split("#token=")
        assert token == quote(token, safe="")
        files = {"file": ("a.png", photo.read_bytes())}
        assert len(token) >= 32
        assert httpx.post(url + "predict", files=files).status_code == 401
        allowed = httpx.post(url + "predict", files=files, headers={"Authorization": f"Bearer {token}"})
        assert allowed.status_code == 200
    finally:
        server.terminate()
        server.wait(20)
