"""Local and downloaded weights: loaded whole or refused with the keys."""

import urllib.error

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision.models import get_model, mobilenet_v2, resnet18

from tl_lightning.backbones import torchvision as backbone
from tl_lightning.backbones.from_torchvision import formula
from tl_lightning.errors import UserError
from tl_lightning.runs import model


def state_of(name, **options):
    torch.manual_seed(3)
    return get_model(name, weights=None, **options).state_dict()


@pytest.mark.parametrize("extension", ["pth", "safetensors"])
@pytest.mark.parametrize("half", [False, True])
def test_local_file(extension, half, tmp_path):
    state = state_of("resnet18")
    saved = {k: v.half() if half and v.is_floating_point() else v for k, v in state.items()}
    path = tmp_path / f"w.{extension}"
    save_file(saved, path) if extension == "safetensors" else torch.save(saved, path)
    network = backbone("resnet18", str(path))
    assert network.pretrained
    for key, value in network.net.state_dict().items():
        assert value.dtype == state[key].dtype  # fp16 is upcast
        torch.testing.assert_close(value, saved[key].to(value.dtype), rtol=0, atol=0)
    # the classifier is kept aside, with its source's parameters, and is no parameter of ours
    torch.testing.assert_close(network.source_head.weight, saved["fc.weight"].float(), rtol=0, atol=0)
    assert not any("source_head" in n for n, _ in network.named_parameters())


@pytest.mark.parametrize("extension", ["pth", "safetensors"])
def test_networks_that_ask_for_the_version_of_their_weights(extension, tmp_path):
    """MNASNet refuses weights without one, which no file of safetensors can hold; so do a run's own."""
    state, path = state_of("mnasnet0_5"), tmp_path / f"w.{extension}"
    save_file(state, path) if extension == "safetensors" else torch.save(dict(state), path)
    network = backbone("mnasnet0_5", str(path))
    torch.testing.assert_close(network.net.layers[0].weight, state["layers.0.weight"], rtol=0, atol=0)
    head, again = torch.nn.Linear(1280, 2), backbone("mnasnet0_5", None)
    model.load_state(model.state_of(network.net, head), again.net, torch.nn.Linear(1280, 2))
    torch.testing.assert_close(again.net.state_dict(), network.net.state_dict(), rtol=0, atol=0)


def test_nested_state_dict(tmp_path):
    torch.save({"model": state_of("resnet18"), "epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="another architecture"):
        backbone("mobilenet_v2", str(tmp_path / "w.pth"))
    assert backbone("resnet18", str(tmp_path / "w.pth")).pretrained


def test_classifier_of_another_size_is_dropped_with_one_line(tmp_path, caplog):
    caplog.set_level("INFO")
    torch.save(state_of("mobilenet_v2", num_classes=7), tmp_path / "w.pth")
    network = backbone("mobilenet_v2", str(tmp_path / "w.pth"))
    assert network.source_head is None
    assert [r.message for r in caplog.records] == [
        f"the classifier in {tmp_path / 'w.pth'} is for 7 classes, not the source's, and is dropped"
    ]


def test_another_architecture_lists_the_keys(tmp_path):
    torch.save(state_of("resnet34"), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"another architecture than ResNet: \d+ unexpected: layer1.2.conv1.weight"):
        backbone("resnet18", str(tmp_path / "w.pth"))
    state = state_of("resnet18")
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"1 missing: layer1.0.conv1.weight"):
        backbone("resnet18", str(tmp_path / "w.pth"))
    state["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"1 of another shape: layer1.0.conv1.weight"):
        backbone("resnet18", str(tmp_path / "w.pth"))


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_pickled_code_is_refused(tmp_path, capsys):
    torch.save({"fc.weight": Evil()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="more than plain tensors"):
        backbone("resnet18", str(tmp_path / "w.pth"))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_unusable_files(name, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        backbone("resnet18", str(tmp_path / name))
    (tmp_path / name).write_bytes(b"garbage" * 10)
    with pytest.raises(UserError, match=r"weights file .*w\."):
        backbone("resnet18", str(tmp_path / name))


def test_unknown_name():
    with pytest.raises(UserError, match=r"no weights 'IMAGENET_V1': did you mean IMAGENET1K_V1"):
        backbone("resnet50", "IMAGENET_V1")


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"cannot be downloaded .*backbone.weights=PATH.*backbone=mobilenet_v2_formula"):
        backbone("resnet18")


def test_weights_that_ship_with_the_package_are_what_the_file_holds():
    network = backbone("mobilenet_v2", "formula")
    path = formula.FOLDER / "mobilenet_v2_formula.safetensors"
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        key = "features.1.conv.0.0.weight"
        torch.testing.assert_close(network.net.get_parameter(key), file.get_tensor(key).float())
    assert {"network", "recipe", "views", "seed", "commit", "licence"} <= set(facts)
    assert network.input.size == network.input.eval_size == int(facts["size"])
    assert network.pretrained and not network.small_rates  # drawn images say less than photographs: all of it may move
    assert path.stat().st_size < 6e6
    assert backbone("mobilenet_v2", "formula", 48).input.size == 48


def test_shipped_weights_that_were_altered_are_refused(tmp_path, monkeypatch):
    name = "mobilenet_v2_formula.safetensors"
    altered = bytearray((formula.FOLDER / name).read_bytes())
    altered[-1] ^= 1
    (tmp_path / name).write_bytes(altered)
    monkeypatch.setattr(formula, "FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"formula.safetensors is not the file that was shipped .*install .* again"):
        backbone("mobilenet_v2", "formula")
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r"formula.safetensors is missing: install .* again"):
        backbone("mobilenet_v2", "formula")


def test_formula_weights_of_a_network_that_has_none():
    with pytest.raises(UserError, match=r"resnet50 has no weights 'formula': the package ships them for mobilenet_v2"):
        backbone("resnet50", "formula")
    with pytest.raises(UserError, match=r"mobilenet_v2 has no weights 'formulas': did you mean formula"):
        backbone("mobilenet_v2", "formulas")


def test_named_weights_come_from_torchvisions_cache_without_a_network(monkeypatch):
    """The real loading path, with a file where torchvision would have put its download."""
    from pathlib import Path

    from torchvision.models import ResNet18_Weights

    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(ResNet18_Weights.DEFAULT.url).name
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state_of("resnet18"), target)
    network = backbone("resnet18")
    expected = resnet18()
    expected.load_state_dict(state_of("resnet18"))
    expected.eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.source_head(network.eval()(images)), expected(images), rtol=1e-5, atol=1e-5)
    target.unlink()


def test_vit_positions_are_interpolated(tmp_path):
    torch.save(state_of("vit_b_16"), tmp_path / "w.pth")
    network = backbone("vit_b_16", str(tmp_path / "w.pth"), 64)
    assert network.net.encoder.pos_embedding.shape == (1, 17, 768)
    with pytest.raises(UserError, match="takes multiples of 16 pixels"):
        backbone("vit_b_16", None, 100)


def test_vgg_drops_or_keeps_its_fully_connected_layers(tmp_path):
    torch.save(state_of("vgg16"), tmp_path / "w.pth")
    pooled, whole = (
        backbone("vgg16", str(tmp_path / "w.pth")),
        backbone("vgg16", str(tmp_path / "w.pth"), features="fc"),
    )
    assert sum(p.numel() for p in pooled.parameters()) == 14_714_688
    assert sum(p.numel() for p in whole.parameters()) == 138_357_544 - 4096 * 1000 - 1000
    assert pooled.source_head is None
    assert whole.source_head.out_features == 1000


def test_inception_takes_a_file_with_auxiliary_head(tmp_path):
    state = state_of("inception_v3", init_weights=False)
    assert any(k.startswith("AuxLogits") for k in state)
    torch.save(state, tmp_path / "w.pth")
    assert backbone("inception_v3", str(tmp_path / "w.pth")).pretrained


def test_a_fine_tuned_backbone_loads_back_into_plain_torchvision(tmp_path):
    network = backbone("mobilenet_v2", None, 64)
    plain = mobilenet_v2()
    missing, unexpected = plain.load_state_dict(network.net.state_dict(), strict=False)
    assert missing == ["classifier.1.weight", "classifier.1.bias"]
    assert unexpected == []
