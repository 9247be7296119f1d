"""Models of transformers: padding changes nothing; found, downloaded once, or refused in one line."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from tests.zoo import TEXT, language_model, save_language_model, tokens
from tl_lightning.backbones import hub
from tl_lightning.backbones import transformers as backbone
from tl_lightning.backbones.from_transformers import pool
from tl_lightning.batch import map_tensors
from tl_lightning.errors import UserError

pytest.importorskip("transformers")


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("name", TEXT)
@torch.no_grad()
def test_padding_changes_nothing(name, pooling):
    """Bit for bit whatever stands where there is no token; within rounding for more of it."""
    network, x = language_model(name, pooling=pooling).eval(), tokens()
    expected = network(x)
    other = map_tensors(torch.clone, x)
    other["input_ids"][1, 3:] = 17
    assert torch.equal(network(other), expected)
    longer = map_tensors(lambda t: F.pad(t, (0, 4)), x)
    torch.testing.assert_close(network(longer), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network(map_tensors(lambda t: t[1:, :3], x)), expected[1:], rtol=1e-5, atol=1e-5)
    for middle in range(1, len(network.stages)):
        assert (network.run(x, 0, middle)[1, 3:] == 0).all()


@torch.no_grad()
def test_poolings_by_hand():
    network, x = language_model("BertConfig", pooling="cls").eval(), tokens()
    hidden, mask = network.net(**x).last_hidden_state, x["attention_mask"][..., None]
    by_hand = {
        "cls": hidden[:, 0],
        "last": torch.stack([hidden[0, 4], hidden[1, 2]]),
        "mean": torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)]),
        "max": torch.stack([hidden[0].amax(0), hidden[1, :3].amax(0)]),
    }
    masked = torch.cat([hidden * mask, mask], -1)
    for how, expected in by_hand.items():
        torch.testing.assert_close(pool(masked, how), expected)
    torch.testing.assert_close(network(x), by_hand["cls"])


def test_pooling_follows_who_sees_whom():
    assert language_model("BertConfig").input.pooling == "mean"
    assert language_model("GPT2Config").input.pooling == "last"


def test_bad_models_are_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, said in (
        ("nobody/nothing-base", "nobody/nothing-base is not on this machine, and HF_HUB_OFFLINE is set. Give the path"),
        (str(tmp_path / "empty"), "holds no config.json"),
        (str(tmp_path / "gone"), "there is no such folder"),
    ):
        with pytest.raises(UserError, match=said):
            backbone(name)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    tried = []
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(hub.socket, "create_connection", lambda *to: tried.append(to) or _unreachable())
    with pytest.raises(UserError, match=r"huggingface.co cannot be reached: no way"):
        backbone("nobody/nothing-base")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://mirror:81")
    with pytest.raises(UserError, match="mirror cannot be reached"):
        backbone("nobody/nothing-base")
    assert [address for address, _ in tried] == [("huggingface.co", 443), ("mirror", 81)]
    monkeypatch.setattr(hub, "getproxies", lambda: {"http": "http://proxy"})
    hub.reach("nobody/nothing-base", "")  # the client knows the way
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"transformers is not installed: pip install 'tl-lightning\[text\]'"):
        backbone("x")


def _unreachable():
    raise OSError("no way")


class _Hub(BaseHTTPRequestHandler):
    """A hub with one model."""

    folder, asked = None, []

    def do_GET(self):
        self.asked.append(self.path)
        file = self.folder / self.path.rpartition("/")[2]
        found = "/resolve/" in self.path and file.is_file()
        body = file.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", hashlib.sha1(body).hexdigest())
        self.send_header("X-Repo-Commit", "0" * 40)
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


def test_a_model_of_the_hub_is_downloaded_once(model, tmp_path):
    _Hub.folder = model
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known = {k: v for k, v in os.environ.items() if k.lower() not in ("http_proxy", "https_proxy", "hf_hub_offline")}
    address = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hub")}
    script = "from tl_lightning.backbones import transformers; print(transformers('nobody/tiny').net.state_dict()"
    script += "['encoder.layer.0.output.dense.weight'].sum().item())"
    try:
        for first in (True, False):
            _Hub.asked.clear()
            ran = subprocess.run([sys.executable, "-c", script], env=known | address, capture_output=True, text=True)
            expected = safetensors.torch.load_file(model / "model.safetensors")["encoder.layer.0.output.dense.weight"]
            assert float(ran.stdout) == pytest.approx(float(expected.sum())), ran.stderr
            assert any(path.endswith("model.safetensors") for path in _Hub.asked) is first
    finally:
        server.shutdown()


def test_folders_that_are_no_language_model_are_refused(tmp_path):
    save_language_model(tmp_path / "mute", weights=True)
    for file in (tmp_path / "mute").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="no tokenizer that knows a word"):
        backbone(str(tmp_path / "mute"))
    save_language_model(tmp_path / "vit")
    import transformers

    small = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    transformers.ViTConfig(image_size=32, patch_size=16, **small).save_pretrained(tmp_path / "vit")
    with pytest.raises(UserError, match="ViTModel cannot be run on tokens alone"):
        backbone(str(tmp_path / "vit"), None)


def test_weights_that_were_cut_off_are_named(model):
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(UserError, match=f"{model} cannot be loaded"):
        backbone(str(model))


def test_configurations_that_differ_in_what_does_not_matter(tmp_path):
    """Tuples asked for, and position numbers among the weights, as older releases wrote them."""
    save_language_model(tmp_path / "old", weights=True)
    config = json.loads((tmp_path / "old" / "config.json").read_text()) | {"return_dict": False}
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    state = safetensors.torch.load_file(tmp_path / "old" / "model.safetensors")
    state["embeddings.position_ids"] = torch.arange(64)[None]
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    loaded = backbone(str(tmp_path / "old"), str(tmp_path / "weights.safetensors"))
    assert torch.equal(loaded(tokens()), backbone(str(tmp_path / "old"))(tokens()))


@pytest.mark.parametrize(("config", "most"), [("BertConfig", 64), ("RobertaConfig", 62), ("MPNetConfig", 62)])
def test_as_many_tokens_as_a_model_has_positions(config, most, tmp_path):
    save_language_model(tmp_path / "model", config)
    with pytest.raises(UserError, match=f"knows {most} positions"):
        backbone(str(tmp_path / "model"), None, length=most + 1)
    assert backbone(str(tmp_path / "model"), None, length=most)(tokens([[5] * most])).isfinite().all()


def test_segments_of_a_pair_reach_the_network():
    network, x = language_model("BertConfig").eval(), tokens()
    x["token_type_ids"][:] = torch.tensor([0, 0, 0, 1, 1])
    with torch.no_grad():
        own = network.net(**x).last_hidden_state
    real = x["attention_mask"][..., None].float()
    torch.testing.assert_close(network(x), (own * real).sum(1) / real.sum(1), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(network(x), network({**x, "token_type_ids": torch.zeros_like(x["token_type_ids"])}))
