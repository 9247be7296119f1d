"""Model cards, and the terms of weights."""

import pytest
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
