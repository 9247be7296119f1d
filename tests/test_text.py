"""Texts through the learner: padding changes nothing, batches are of one length, runs are those of images."""

import json

import numpy as np
import pytest
import torch

from tests.texts import read_texts, write_texts
from tests.zoo import WORDS, language_model, save_language_model
from tl_lightning.backbones import transformers as backbone
from tl_lightning.build import build
from tl_lightning.config.compose import composed
from tl_lightning.config.settings import settings_of
from tl_lightning.data import splits, text_table
from tl_lightning.data.samples import Item
from tl_lightning.data.sampling import EpochSampler, LengthBatches
from tl_lightning.errors import UserError
from tl_lightning.inputs import TOKENS
from tl_lightning.jobs.train import train
from tl_lightning.runs.model import load_model
from tl_lightning.tasks import Multilabel

pytest.importorskip("transformers")


@pytest.fixture
def configured(model, tmp_path):
    """Composes a run on 24 texts."""
    file = write_texts(tmp_path / "texts.csv")

    def make(*overrides, run="run", drop="nothing"):
        words = ["backbone=text", f"backbone.name={model}", "backbone.length=16", "data=text_csv", f"data.file={file}",
                 "data.batch_size=4", "trainer=cpu", "trainer.max_epochs=1", "++callbacks.progress=null"]  # fmt: skip
        replaced = {o.partition("=")[0] for o in overrides}
        kept = [w for w in words if not w.startswith(drop) and w.partition("=")[0] not in replaced]
        return settings_of(composed([*kept, *overrides], str(tmp_path / run)))

    return make


def test_tokens_pairs_and_cuts(tmp_path, caplog):
    caplog.set_level("INFO")
    network = language_model("BertConfig")
    rows, cut = network.input.encode([("the quick", "fox"), ("dog " * 40, "cat " * 40)])
    inner = network.input.tokenizer
    assert rows[0][:, 0].tolist() == [2, *inner.convert_tokens_to_ids(["the", "quick"]), 3,
                                      *inner.convert_tokens_to_ids(["fox"]), 3]  # fmt: skip
    assert rows[0][:, 1].tolist() == [0, 0, 0, 0, 1, 1]
    assert (cut, len(rows[1])) == (1, 16)
    file = write_texts(tmp_path / "x.csv", [("dog " * (3 + 4 * (i % 5)), "ab"[i % 2]) for i in range(20)])
    text_table(network.input, file=str(file), batch_size=2)
    assert "train texts are longer than 16 tokens and are cut" in caplog.text


def test_a_tokenizer_without_a_padding_token(tmp_path):
    save_language_model(tmp_path / "model", "GPT2Config", padding=False)
    network = backbone(str(tmp_path / "model"), None, length=16)
    data = text_table(network.input, file=str(write_texts(tmp_path / "x.csv")), batch_size=4)
    assert network.input.tokenizer.pad_token is None
    batch = next(iter(data.train_dataloader()))
    assert network(batch.inputs).shape == (4, 32)


def test_batches_hold_texts_of_one_length():
    """Every text once an epoch, other batches in the next, far less padding than in the order drawn."""
    lengths = np.random.default_rng(0).integers(1, 100, 500)
    batches = LengthBatches(EpochSampler(500, 0), lengths, 8)

    def epoch(number):
        batches.sampler.set_epoch(number)
        return [[i for i, _ in b] for b in batches]

    first = epoch(0)
    assert len(first) == len(batches) == 62
    assert first == epoch(0) != epoch(1)
    flat = [i for b in first for i in b]
    assert len(set(flat)) == len(flat) == 496

    def padded(of):
        return sum(lengths[b].max() * len(b) for b in of) / sum(lengths[b].sum() for b in of)

    batches.sampler.set_epoch(0)
    drawn = [i for i, _ in batches.sampler]
    assert padded(first) < 1.15 < 1.6 < padded([drawn[i : i + 8] for i in range(0, 496, 8)])
    means = [lengths[b].mean() for b in first]
    assert abs(np.corrcoef(means, np.arange(62))[0, 1]) < 0.4  # shuffled, not from short to long


STRATEGIES = ["feature_extraction", "linear_probe", "linear_probe strategy.taps=true", "finetune_top", "early_features",
              "finetune_all", "gradual_unfreeze trainer.max_epochs=6", "lp_ft", "lora", "norm_only", "bitfit",
              "auto"]  # fmt: skip


@pytest.mark.parametrize("words", STRATEGIES)
def test_every_strategy_is_a_run(words, configured, tmp_path):
    strategy, *more = words.split()
    metrics = train(configured(f"strategy={strategy}", *more))
    run = tmp_path / "run"
    assert 0 <= metrics["val/accuracy"] <= 1
    model = load_model(run)
    assert model.facts["preprocessing"]["length"] == 16
    with (run / "splits.csv").open() as file:
        assert len(file.readlines()) == 25
    x = model.backbone.input.tokens(["good fox", "awful dog and cat"])
    assert {name: ids.shape for name, ids in x.items()} == dict.fromkeys(TOKENS, (2, 6))
    assert all(ids[0, 4:].eq(0).all() for ids in x.values())
    assert model.network(x).shape == (2, 2)
    assert json.loads((run / "metrics.json").read_text())["classes"] == ["no", "yes"]


def test_the_written_model_scores_as_the_run(configured, tmp_path):
    cfg = configured("strategy=lora", "trainer.max_epochs=3", "optimizer.lr=1e-2", "strategy.speed=1")
    metrics = train(cfg)
    model, file = load_model(tmp_path / "run"), cfg.data["file"]
    data = text_table(model.backbone.input, file=file, batch_size=4, splits=str(tmp_path / "run/splits.csv"))
    right = [int((model.network(b.inputs).argmax(1) == b.targets).sum()) for b in data.val_dataloader()]
    assert sum(right) / sum(data.samples.counts("val")) == pytest.approx(metrics["val/accuracy"])


@pytest.mark.parametrize("strategy", ["finetune_top", "feature_extraction"])
def test_cached_rows_train_as_texts_do(strategy, configured, caplog):
    """Of a model without dropout: the same loss, whether the layers below were run once or every time."""
    caplog.set_level("INFO")
    found = []
    for i, cache in enumerate(("auto", "off")):
        cfg = configured(f"strategy={strategy}", f"cache={cache}", "cache_dtype=float32", "backbone.dropout=false",
                         "trainer.max_epochs=3", run=f"run{i}")  # fmt: skip
        found.append(train(cfg))
    assert "24 rows" in caplog.text
    assert found[0]["val/loss"] == pytest.approx(found[1]["val/loss"], rel=1e-4)
    assert found[0]["val/loss"] != pytest.approx(0.6931, abs=1e-5)


def test_rows_of_splits_of_other_lengths(configured, tmp_path):
    """Also where the longest text of a split is its first."""
    rows = [("fox " * (9 if i == 0 else 2), "ab"[i % 2], "train") for i in range(8)]
    rows += [("dog " * (5 if i == 0 else 2), "ab"[i % 2], "val") for i in range(4)]
    file = write_texts(tmp_path / "x.csv", [r[:2] for r in rows])
    found = read_texts(file)
    items = [Item(i.path, i.label, r[2]) for i, r in zip(found.items, rows, strict=True)]
    splits.write(items, tmp_path / "s.csv")
    words = ["strategy=finetune_top", f"data.file={file}", f"data.splits={tmp_path}/s.csv"]
    parts = build(configured(*words))
    assert [parts.data.dataset(s, None).longest for s in ("train", "val")] == [0, 0]
    loaders, _ = parts.frozen.loaders(torch.device("cpu"), 1)
    assert [loaders.rows[s][0].shape[1] for s in ("train", "val")] == [11, 7]


def test_bad_options_are_refused(model, configured, photos, tmp_path):
    for options, said in (
        ({"pooling": "sum"}, "pooling=sum is unknown"),
        ({"dropout": 0.5}, "dropout=0.5 must be true or false"),
        ({"length": 1}, "length=1 must be"),
        ({"weights": "IMAGENET"}, "take DEFAULT, a local file, or null"),
    ):
        with pytest.raises(UserError, match=said):
            backbone(str(model), **options)
    with pytest.raises(UserError, match="length=2 leaves no room for words"):
        backbone(str(model), length=2).input.encode([("the quick", "fox")])
    with pytest.raises(UserError, match=r"strategy\.decay above 0"):
        build(configured("strategy=finetune_all", "strategy.taps=true", "strategy.decay=0"))
    with pytest.raises(UserError, match="the backbone reads texts, and the data are images"):
        backbone_only = [f"data.root={photos}", "data.batch_size=4"]
        train(configured("data=image_folder", *backbone_only, drop="data.file"))
    with pytest.raises(UserError, match="the backbone looks at images, and the data are texts"):
        train(configured("backbone=mobilenet_v2_formula", drop="backbone."))
    save_language_model(tmp_path / "albert", "BertConfig")
    config = json.loads((tmp_path / "albert" / "config.json").read_text()) | {"model_type": "albert"}
    (tmp_path / "albert" / "config.json").write_text(json.dumps(config | {"embedding_size": 16}))
    with pytest.raises(UserError, match="no list of 3 layers is found in AlbertModel"):
        backbone(str(tmp_path / "albert"), None, length=16)


SEVERAL = [(f"{'good ' * (i % 2)}{'film ' * (i % 3 == 0)}{WORDS[i % 20]} {WORDS[(i * 3) % 20]}",
            "|".join(["praise"] * (i % 2) + ["cinema"] * (i % 3 == 0))) for i in range(48)]  # fmt: skip


@pytest.mark.parametrize("strategy", ["linear_probe", "lp_ft", "finetune_top", "feature_extraction"])
def test_several_labels_of_a_text(strategy, configured, tmp_path):
    """Each class by itself, also none; scores are those of scikit-learn on what the written model says."""
    from sklearn.metrics import accuracy_score, f1_score

    file = write_texts(tmp_path / "several.csv", SEVERAL)
    words = [f"strategy={strategy}", "data.separator='|'", "trainer.max_epochs=4", f"data.file={file}"]
    metrics = train(configured(*words))
    model = load_model(tmp_path / "run")
    assert (model.facts["classes"], type(model.task)) == (["cinema", "praise"], Multilabel)
    data = text_table(model.backbone.input, file=str(file), separator="|", batch_size=4,
                      splits=str(tmp_path / "run/splits.csv"))  # fmt: skip
    with torch.no_grad():
        told = [((model.network(b.inputs) > 0).int(), b.targets) for b in data.val_dataloader()]
    found, truth = (torch.cat(part).numpy() for part in zip(*told, strict=True))
    assert truth.shape == (len(data.samples.used("val")), 2)
    assert metrics["val/accuracy"] == pytest.approx(accuracy_score(truth, found))
    assert metrics["val/macro_f1"] == pytest.approx(f1_score(truth, found, average="macro", zero_division=0))
    if strategy == "linear_probe":
        assert metrics["val/accuracy"] > 0.7


def test_what_several_labels_do_not_go_with(configured, tmp_path):
    file = write_texts(tmp_path / "several.csv", SEVERAL)
    words = ["data.separator='|'", f"data.file={file}"]
    for wrong, said in (
        ("data.sampler=balanced", "for samples of one class each"),
        ("trainer.compile=eager", "is for torchvision's networks"),
    ):
        with pytest.raises(UserError, match=said):
            train(configured(*words, wrong))
