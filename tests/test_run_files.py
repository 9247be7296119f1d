"""What a run's folder says, and what is believed of it."""

import json

import pytest

import tl_lightning as tl
from tests.conftest import write_image
from tests.small import PROBE, WORDS
from tl_lightning.targets import public_names

PUBLIC = """
backbones.timm backbones.torchvision backbones.transformers
callbacks.BestCheckpoint callbacks.Forgetting callbacks.LastCheckpoint callbacks.PhasedEarlyStopping
callbacks.PowerAverage callbacks.Pruning callbacks.StopAfter
data.ImageAugmentation data.image_folder data.image_shards data.manifest data.text_table
heads.CosineHead heads.linear heads.mlp
optim.SAMAdamW optim.constant optim.cosine
pretraining.DrawnImages pretraining.Pretraining
regularizers.BSS regularizers.CoTuning regularizers.Delta regularizers.L2SP regularizers.LwF regularizers.none
reports.ContinuedCSVLogger reports.EpochLines reports.MLFlow reports.RunProgress
reports.TensorBoard reports.Wandb
strategies.Auto strategies.EarlyFeatures strategies.FeatureExtraction strategies.FinetuneAll strategies.FinetuneTop
strategies.GradualUnfreeze strategies.LinearProbe strategies.Lora strategies.LpFt
tasks.Classification tasks.Multilabel tasks.Regression tasks.classification tasks.infer tasks.multilabel
tasks.regression
"""


def test_public_names_are_for_ever():
    """Runs that were written name these: one may be added, none may go."""
    assert public_names() == sorted(f"tl_lightning.{name}" for name in PUBLIC.split())


def test_a_run_names_nothing_else(photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "run", **WORDS)
    for file in ("config.yaml", "model.json"):
        text = (run.path / file).read_text()
        named = {word for line in text.splitlines() if "_target_" in line
                 for word in [line.split("_target_")[1].strip(' ":,\'')]}  # fmt: skip
        assert named
        assert {n for n in named if n.startswith("tl_lightning.")} <= set(public_names())
    assert (run.path / "config.yaml").read_text().startswith("format: 1\n")
    assert json.loads((run.path / "model.json").read_text())["format"] == 1


def test_runs_of_another_format_are_named(photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    facts = json.loads((run.path / "model.json").read_text())
    for number in (2, None):
        (run.path / "model.json").write_text(json.dumps({**facts, "format": number}))
        with pytest.raises(tl.UserError, match=r"model.json is not of format 1.*use the release that wrote it"):
            tl.load(run.path)
    with pytest.raises(tl.UserError, match=r"holds no finished run: model.json is missing"):
        tl.load(tmp_path)


def test_a_strangers_run_builds_nothing_that_nobody_admitted(photos, tmp_path):
    """Neither by a name, nor by admitting a package itself, nor by an interpolation."""
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    facts, config = (run.path / "model.json").read_text(), (run.path / "config.yaml").read_text()
    mark = tmp_path / "was-here"
    for group in ("backbone", "head", "task", "strategy"):
        evil = json.loads(facts) | {group: {"_target_": "os.mkdir", "path": str(mark)}}
        (run.path / "model.json").write_text(json.dumps(evil))
        with pytest.raises(tl.UserError, match=r"_target_ 'os.mkdir' may not be built"):
            _ = tl.load(run.path).model
    (run.path / "model.json").write_text(facts)
    for line, said in (("allow: [os]", "a file admits no packages"), ("x: ${oc.env:HOME}", "is not resolved")):
        (run.path / "config.yaml").write_text(f"{config}\n{line}\n")
        with pytest.raises(tl.UserError, match=said):
            tl.load(run.path).evaluate()
    assert not mark.exists()


def test_an_image_beside_the_folder_says_nothing_of_the_class(photos, tmp_path):
    """Names in a prediction are those that were given."""
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    write_image(tmp_path / "new.png", 60, 5)
    assert run.predict(tmp_path / "new.png").sources == [str(tmp_path / "new.png")]
