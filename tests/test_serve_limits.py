"""What a server refuses: nonsense, too much, whoever brings no token, other names."""

import io
import re
import subprocess
import sys
from urllib.parse import quote

import httpx
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tl_lightning.errors import UserError

pytest.importorskip("fastapi")


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
