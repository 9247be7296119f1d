"""A model behind HTTP: answers are the run's own, nonsense is refused, nobody else comes in."""

import io
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import tl_lightning as tl
from tests.commands import REPO
from tests.texts import of_every_task
from tl_lightning.errors import UserError
from tl_lightning.serving.batching import DynamicBatcher, QueueFull

pytest.importorskip("fastapi")


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
    file, options = of_every_task(tmp_path, model, label)
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

    batches = DynamicBatcher(answer, most=4, room=6)
    with pytest.raises(QueueFull):
        batches.submit("too early")
    batches.start()
    first = batches.submit("a")
    while batches.waiting:
        time.sleep(0.001)
    others = [batches.submit(name) for name in "bcdefg"]
    with pytest.raises(QueueFull):
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
    with pytest.raises(QueueFull):
        batches.submit("too late")
    batches.start()
    assert batches.submit("p").result(10) == "P"
    batches.close()


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
