"""timm's networks: weights and preprocessing from timm's own records, refused at once where they cannot be."""

import pytest
import torch
from safetensors.torch import save_file

from tl_lightning.backbones import hub
from tl_lightning.errors import UserError

timm = pytest.importorskip("timm")
from tl_lightning.backbones import timm as backbone  # noqa: E402


def saved(name, path, **options):
    torch.manual_seed(3)
    net = timm.create_model(name, pretrained=False, **options).eval()
    save_file(net.state_dict(), path)
    return net


@pytest.mark.parametrize("name", ["convnextv2_atto", "mobilenetv3_small_100", "vit_tiny_patch16_224"])
@torch.no_grad()
def test_a_local_file_gives_timms_own_logits(name, tmp_path):
    """Through the classifier kept aside, also where its name begins like that of a run's head (head.fc, head.norm)."""
    whole = saved(name, tmp_path / "w.safetensors")
    network = backbone(name, str(tmp_path / "w.safetensors")).eval()
    images = torch.randn(2, 3, 224, 224)
    assert network.pretrained
    assert network.small_rates
    torch.testing.assert_close(network.source_head(network(images)), whole(images), rtol=1e-4, atol=1e-5)
    assert len(network.source_classes) == 1000


def test_another_classifier_is_dropped_and_another_network_refused(tmp_path):
    saved("convnextv2_atto", tmp_path / "w.safetensors", num_classes=7)
    network = backbone("convnextv2_atto", str(tmp_path / "w.safetensors"), 64)
    assert network.source_head is None
    with pytest.raises(UserError, match="another architecture than MobileNetV3"):
        backbone("mobilenetv3_small_100", str(tmp_path / "w.safetensors"))


def test_positions_of_another_size_are_interpolated(tmp_path):
    saved("vit_tiny_patch16_224", tmp_path / "w.safetensors")
    assert backbone("vit_tiny_patch16_224", str(tmp_path / "w.safetensors"), 96).net.pos_embed.shape[1] == 37


def test_preprocessing_is_timms():
    image = backbone("convnextv2_atto", None).input
    config = timm.get_pretrained_cfg("convnextv2_atto")
    assert (image.size, image.eval_size) == (config.input_size[1], config.test_input_size[1]) == (224, 288)
    assert image.eval_resize == round(288 / config.test_crop_pct)
    assert (image.interpolation, image.mean, image.std) == ("bicubic", config.mean, config.std)
    assert backbone("convnextv2_atto", None, 64).input.eval_size == 64


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("resnet5x", {}, "timm has no network 'resnet5x': did you mean resnet"),
        ("resnet18.a9_in1k", {}, "timm has no weights 'resnet18.a9_in1k': did you mean a"),
        ("resnet18", {"weights": "IMAGENET1K_V1"}, "take DEFAULT, a local file, or null"),
        ("crossvit_tiny_240", {"weights": None}, "does not run stage by stage"),
        ("hrnet_w18_small", {"weights": None}, "does not run stage by stage"),
        ("vit_tiny_patch16_224", {"weights": None, "image_size": 16}, "needs at least 32 pixels"),
        ("resnet18", {}, "is not on this machine, and huggingface.co cannot be reached"),
    ],
)
def test_what_cannot_be_had_is_refused_at_once(name, options, said, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(hub, "kept", lambda repo, files: None)
    monkeypatch.setattr(hub.socket, "create_connection", _unreachable)
    with pytest.raises(UserError, match=said):
        backbone(name, **options)


def _unreachable(*to):
    raise OSError("no way")


def test_without_timm_the_command_that_installs_it_is_said(monkeypatch):
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"timm is not installed: pip install 'tl-lightning\[timm\]'"):
        backbone("resnet18")
