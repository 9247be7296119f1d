"""Model cards, and the terms of weights."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torchvision
import yaml

import tl_lightning as tl
from tests.probe import PROBE
from tests.small import SMALL
from tl_lightning.backbones import licences
from tl_lightning.backbones import torchvision as backbone
from tl_lightning.build import build
from tl_lightning.cli.verbs import act
from tl_lightning.jobs.announce import introduce
from tl_lightning.paths import without_folders


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as an upload talks to."""

    @property
    def home(self):
        return f"http://{self.headers['Host']}/me/insects"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/repos/create"):
            asked = json.loads(body)
            if asked["name"] == "refused":
                return self.say({"error": "not allowed"}, 403)
            private = asked.get("private") or asked.get("visibility") == "private"  # by the library's release
            self.server.received["repo"] = asked["organization"], asked["name"], private
            return self.say({"url": self.home})
        if "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            known = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return self.say({"files": [{"path": path, **known} for path in paths]})
        if self.path.endswith("/validate-yaml"):
            return self.say({"errors": [], "warnings": []})
        lines = [json.loads(line) for line in body.splitlines()]
        files = [line["value"] for line in lines if line["key"] == "file"]
        self.server.received["files"] = {f["path"]: base64.b64decode(f["content"]) for f in files}
        return self.say({"commitUrl": f"{self.home}/commit/1", "commitOid": "1", "success": True})

    def do_GET(self):
        public = self.server.received["repo"][1] == "known"
        self.say({"id": "me/insects", "sha": "0" * 40, "siblings": [], "private": not public})

    def say(self, what, status=200):
        content = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *said):
        pass


@pytest.fixture
def hub_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.received = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", server.received
    server.shutdown()


def test_a_card_says_what_others_must_know(photos, tmp_path, capsys):
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    capsys.readouterr()
    act("card", [f"run={run.path}"])
    assert capsys.readouterr().out.strip().endswith("MODEL_CARD.md")
    text = (run.path / "MODEL_CARD.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == run.model.facts["licence"] == "apache-2.0"
    (metric, _) = head["model-index"][0]["results"][0]["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", round(run.metrics["val/accuracy"], 4))
    assert "| dark | 10 |" in text
    assert "fewer than ten samples of dark, light" in text
    interval = next(s for s in run.evaluate().scores if s.name == "val/accuracy").interval
    assert f"| val/accuracy | {run.metrics['val/accuracy']:.4f} | {interval} |" in text


def test_hubs_read_the_card(photos, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    found = hub.ModelCard.load(run.card()).data
    assert (found.license, found.library_name, found.pipeline_tag) == (
        "apache-2.0",
        "tl_lightning",
        "image-classification",
    )
    assert found.eval_results[0].metric_value == round(run.metrics["val/accuracy"], 4)


def test_a_model_is_pushed_without_what_is_nobodys_business(photos, tmp_path, hub_server, caplog):
    caplog.set_level("INFO")
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    endpoint, received = hub_server
    address = run.push_to_hub("me/insects", token="hf_x", endpoint=endpoint)
    assert address.endswith("me/insects")
    assert received["repo"] == ("me", "insects", True)
    files = received["files"]
    assert set(files) == {"README.md", "calibration.json", "metrics.json", "model.json", "model.safetensors"}
    assert not any(str(photos).encode() in content or b"/00.png" in content for content in files.values())
    assert "push      README.md, calibration.json" in caplog.text and "private" in caplog.text
    for name, content in files.items():
        (tmp_path / "found" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "found" / name).write_bytes(content)
    assert tl.load(tmp_path / "found").predict(photos).answers == run.predict(photos).answers
    with pytest.raises(tl.UserError, match="me/known is there already, for everybody to see"):
        run.push_to_hub("me/known", token="hf_x", endpoint=endpoint)
    with pytest.raises(tl.UserError, match="me/insects cannot be pushed"):
        run.push_to_hub("me/insects", token="hf_x", endpoint="http://127.0.0.1:9")
    with pytest.raises(tl.UserError, match="me/refused cannot be pushed"):
        run.push_to_hub("me/refused", token="hf_x", endpoint=endpoint)
    with pytest.raises(tl.UserError, match="cannot be pushed"):
        run.push_to_hub("no name", token="hf_x", endpoint=endpoint)


def test_paths_of_this_machine_stay_here(photos, tmp_path, hub_server):
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "mine.pth")
    words = {**PROBE, "backbone.weights": str(tmp_path / "mine.pth")}
    run = tl.train(photos, run_dir=tmp_path / "run", **words)
    endpoint, received = hub_server
    run.push_to_hub("me/insects", endpoint=endpoint, token="hf_x")
    assert not any(str(tmp_path).encode() in content for content in received["files"].values())
    assert json.loads(received["files"]["model.json"])["backbone"]["weights"] == "mine.pth"
    assert without_folders("distilbert/base-uncased") == "distilbert/base-uncased"
    assert without_folders("./" + "x" * 5000) == "x" * 5000 and without_folders("a\0/b") == "a\0/b"


def test_a_network_given_as_an_object_has_a_card(photos, tmp_path):
    words = {k: v for k, v in PROBE.items() if not k.startswith("backbone")}
    words["backbone"] = backbone("mobilenet_v2", weights="formula", image_size=32)
    run = tl.train(photos, run_dir=tmp_path / "run", **words)
    assert "a network of its own, fine-tuned to 2 classes" in run.card().read_text()


def test_terms_that_weights_state(tmp_path):
    entries = torchvision.models.ViT_B_16_Weights
    assert licences.of_torchvision(entries.IMAGENET1K_SWAG_E2E_V1.meta.get("license")) == "cc-by-nc-4.0"
    assert licences.of_torchvision(entries.IMAGENET1K_V1.meta.get("license")) == ""
    assert backbone("mobilenet_v2", weights=None).licence == ""
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\nlicense: other\n")
    assert licences.of_folder(tmp_path) == "mit"
    (tmp_path / "README.md").write_text("no front matter\nlicense: mit\n")
    assert licences.of_folder(tmp_path) == licences.of_folder(tmp_path / "none") == ""


@pytest.mark.parametrize(("licence", "forbids"), [
    ("cc-by-nc-4.0", True), ("cc-by-nc-sa-4.0", True), ("fair-noncommercial-research-license", True), ("mit", False),
    ("apache-2.0", False), ("nvidia-open-model-license", False), ("cncf", False), ("", False)])  # fmt: skip
def test_terms_that_forbid_commerce(licence, forbids):
    assert licences.forbids_commerce(licence) == forbids


def test_terms_that_forbid_commerce_are_said_before_training(configure, caplog):
    settings = configure(*SMALL, "strategy=linear_probe")
    setup = build(settings)
    introduce(settings, setup)
    assert "not for commerce" not in caplog.text
    setup.module.backbone.licence = "cc-by-nc-4.0"
    introduce(settings, setup)
    assert "licence   cc-by-nc-4.0: these weights, and what is trained from them, are not for commerce" in caplog.text
