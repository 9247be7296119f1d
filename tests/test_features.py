"""What is computed once equals what would be computed every time, and nothing stale is ever used."""

import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.conftest import write_image
from tests.tiny import INPUT, STAGES, Trace, tiny_backbone, tiny_data, tiny_module, tiny_trainer
from tl_lightning import optim
from tl_lightning.backbones.torchvision import backbone as torchvision_backbone
from tl_lightning.data.transforms import Augment, eval_transform, train_transform
from tl_lightning.errors import UserError
from tl_lightning.features import engine, views
from tl_lightning.features.engine import Prefix
from tl_lightning.features.extract import Extractor
from tl_lightning.features.frozen import Frozen, Options
from tl_lightning.features.rows import FeatureDataModule
from tl_lightning.features.views import View, choose
from tl_lightning.store import Store
from tl_lightning.strategies import FeatureExtraction, FinetuneAll, FinetuneTop, LinearProbe, LpFt
from tl_lightning.strategies.plan import Facts

CPU = torch.device("cpu")
PRETRAINED = Facts(True, 2, 20)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def plan_of(strategy):
    return strategy.given(PRETRAINED).plan(STAGES)


def warmed(pretrained=True):
    """The tiny backbone with BatchNorm statistics as of use."""
    backbone = tiny_backbone(pretrained).train()
    for _ in range(20):
        backbone(torch.randn(16, 3, 16, 16))
    return backbone.eval()


def extract(root, network=None, boundary=3, dtype="float16", view=None, store="features", data=None):
    data = data or tiny_data(root)
    prefix = Prefix(network or warmed(), boundary, "fused", CPU, 100)
    extractor = Extractor(prefix, data, Store(store) if store else None, dtype, show=False)
    view = view or View(eval_transform(data.input))
    return extractor.rows([("train", view), ("val", view)]), extractor


def reference(root, network, boundary=3, split="train", mirrored=False):
    data = tiny_data(root)
    images = data.images(split, eval_transform(data.input), keep=False)
    pixels = torch.stack([images[i, 0][0] for i in range(len(images))])
    with torch.no_grad():
        return network.run(data.input.normalise(pixels.flip(-1) if mirrored else pixels), 0, boundary)


@pytest.mark.parametrize("boundary", [1, 3])
@pytest.mark.parametrize("store", ["features", None])
def test_rows_are_the_networks_own(photos, boundary, store):
    network = warmed()
    (train, val), extractor = extract(photos, network, boundary, store=store)
    assert extractor.computed == len(train) + len(val) == 24
    for split, rows in (("train", train), ("val", val)):
        expected = reference(photos, network, boundary, split)
        torch.testing.assert_close(torch.from_numpy(np.array(rows)).float(), expected, rtol=1e-3, atol=1e-3)


def test_a_second_pass_computes_nothing(photos, folder):
    first, _ = extract(photos)
    again, extractor = extract(photos)
    assert extractor.computed == 0
    assert np.array_equal(first[0], again[0])
    assert isinstance(again[0], np.memmap)
    assert again[0].dtype == np.float16
    assert len(list((folder / "features").glob("*/rows.npy"))) == 2


def other_weights(root):
    network = warmed()
    with torch.no_grad():
        network.net.stem[0].weight[0, 0, 0, 0] += 1e-3
    return extract(root, network)


def other_statistics(root):
    network = warmed()
    network.net.stem[1].running_mean[0] += 1e-3
    return extract(root, network)


def other_architecture(root):
    network = warmed()
    network.net.stem[0].stride = (1, 1)
    return extract(root, network)


def other_image(root):
    path = next(iter(sorted((root / "dark").iterdir())))
    write_image(path, 60, seed=999)
    return extract(root)


def other_normalisation(root):
    network, data = warmed(), tiny_data(root)
    network.input = data.input = INPUT.__class__(16, 16, 18, "bilinear", (0.4, 0.5, 0.5), (0.25, 0.25, 0.25))
    return extract(root, network, data=data)


def other_geometry(root):
    size = INPUT.__class__(16, 16, 20, "bilinear", INPUT.mean, INPUT.std)
    return extract(root, view=View(eval_transform(size)))


CHANGES = {
    "weights": other_weights, "statistics": other_statistics, "architecture": other_architecture,
    "image": other_image, "normalisation": other_normalisation, "geometry": other_geometry,
    "boundary": lambda root: extract(root, boundary=2),
    "dtype": lambda root: extract(root, dtype="float32"),
    "mirror": lambda root: extract(root, view=View(eval_transform(INPUT), mirrored=True)),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_is_never_stale(change, photos, folder):
    extract(photos)
    _, extractor = CHANGES[change](photos)
    assert extractor.computed >= 6  # the split that changed
    assert extract(photos)[1].computed == 0


def test_touching_a_file_without_changing_it_keeps_its_rows(photos):
    extract(photos)
    for path in photos.rglob("*.png"):
        path.touch()
    assert extract(photos)[1].computed == 0


def test_a_damaged_entry_is_made_again_and_said_so(photos, folder, caplog):
    expected = np.array(extract(photos)[0][0])
    for damage in (
        lambda f: f.write_bytes(f.read_bytes()[:-50]),
        lambda f: f.write_bytes(f.read_bytes()[:128] + bytes(len(f.read_bytes()) - 128)),
        lambda f: f.write_bytes(b""),
        lambda f: f.unlink(),
    ):
        for file in (folder / "features").glob("*/rows.npy"):
            damage(file)
        caplog.clear()
        rows, extractor = extract(photos)
        assert extractor.computed == 24
        assert caplog.text.count("is damaged") == 2
        assert np.array_equal(rows[0], expected)


def test_what_half_precision_cannot_hold_is_kept_in_single(photos, caplog):
    caplog.set_level(logging.INFO)
    network = warmed()
    with torch.no_grad():
        network.net.block2[1].weight.mul_(1e6)
    rows, _ = extract(photos, network)
    assert rows[0].dtype == np.float32
    assert "half precision cannot hold" in caplog.text
    torch.testing.assert_close(torch.from_numpy(np.array(rows[0])), reference(photos, network), rtol=1e-4, atol=1e-2)


def test_one_image_beyond_half_precision_is_seen_in_the_pass(photos, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    network = warmed()
    run = Prefix.__call__
    monkeypatch.setattr(Prefix, "__call__", lambda self, x: run(self, x) + 70_000.0)
    rows, _ = extract(photos, network)
    assert rows[0].dtype == np.float32
    assert "half precision cannot hold" in caplog.text
    assert np.isfinite(rows[0]).all()


def test_two_splits_of_the_same_images(photos, tmp_path):
    """A test split that is a copy of val, as a stopgap: no process waits for itself."""
    root = tmp_path / "split"
    for split in ("train", "val", "test"):
        shutil.copytree(photos, root / split)
    data = tiny_data(root)
    frozen = Frozen(warmed(), plan_of(LinearProbe()), data, Options())
    loaders, _ = frozen.loaders(CPU, 1)
    assert {s: len(rows[0]) for s, rows in loaders.rows.items()} == {"train": 24, "val": 24, "test": 24}


# -- training on rows --


def train(root, folder, strategy, epochs=3, resume_at=None, augment=None, **options):
    """Train the tiny learner as a run would; gives its module and the datamodule that it trained on."""

    def one(epochs, checkpoint):
        data = tiny_data(root, batch_size=5)
        data.augment = augment or Augment(None, 0.0)
        data.cache = "off"
        module = tiny_module(plan_of(strategy), data, schedule=optim.constant(warmup=0.0))
        frozen = Frozen(module.backbone, module.plan, data, Options(**options))
        loaders, module.entry = frozen.loaders(CPU, epochs)
        trace = Trace()
        tiny_trainer(folder, epochs, trace).fit(module, datamodule=loaders, ckpt_path=checkpoint, weights_only=True)
        return module, loaders

    if resume_at is None:
        return one(epochs, None)
    one(resume_at, None)
    return one(epochs, str(folder / "checkpoints" / "last.ckpt"))


@pytest.mark.parametrize("strategy", [FeatureExtraction(), FinetuneTop(stages=1), FinetuneTop(stages=2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 3e-3)])
def test_cached_training_equals_uncached(strategy, dtype, tolerance, photos, tmp_path):
    cached, loaders = train(photos, tmp_path / "a", strategy, dtype=dtype)
    plain, images = train(photos, tmp_path / "b", strategy, cache="off", engine="eager")
    assert isinstance(loaders, FeatureDataModule)
    assert not isinstance(images, FeatureDataModule)
    start = tiny_module(plan_of(strategy), tiny_data(photos)).state_dict()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(cached.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)
    moved = {n for n, v in plain.state_dict().items() if not torch.equal(v, start[n])}
    assert any(n.startswith("head") for n in moved)


@pytest.mark.parametrize(("cache", "augment"), [("auto", Augment(None, 0.5)), (3, Augment())])
def test_resuming_on_rows_equals_never_stopping(cache, augment, photos, tmp_path):
    options = {"augment": augment, "cache": cache}
    whole, loaders = train(photos, tmp_path / "a", FinetuneTop(stages=1), 4, **options)
    parts, _ = train(photos, tmp_path / "b", FinetuneTop(stages=1), 4, resume_at=2, **options)
    assert isinstance(loaders, FeatureDataModule)
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name


def test_mirror_images_are_drawn_half_of_the_time(photos):
    data, network = tiny_data(photos), warmed()
    data.augment = Augment(None, 0.5)
    frozen = Frozen(network, plan_of(FeatureExtraction()), data, Options(dtype="float32"))
    loaders, entry = frozen.loaders(CPU, 1)
    assert entry == 3
    plain, mirrored = reference(photos, network), reference(photos, network, mirrored=True)
    counts = [0, 0]
    loader = loaders.train_dataloader()
    for epoch in range(40):
        loader.sampler.set_epoch(epoch)
        keys = list(loader.sampler)
        batches = torch.cat([rows for rows, _ in loader])
        for (index, _), row in zip(keys, batches, strict=False):
            both = [torch.allclose(row, view[index], rtol=1e-3, atol=1e-4) for view in (plain, mirrored)]
            assert sum(both) == 1
            counts[both.index(True)] += 1
    assert counts[1] / sum(counts) == pytest.approx(0.5, abs=0.06)
    assert loaders.pictures.shape == (16, 3, 16, 16)
    torch.testing.assert_close(loaders.pictures[1], loaders.pictures[0].flip(-1))


def test_random_views_are_the_training_transforms_own(photos):
    """View k of image i has the pixels that the random transform draws from the seed of (i, k)."""
    transform = train_transform(INPUT, Augment())
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    view = View(transform, draw=2)
    torch.manual_seed(3)
    first = view(image, 7)
    torch.manual_seed(4)
    assert torch.equal(first, view(image, 7))
    torch.manual_seed(7 * 1009 + 2)
    assert torch.equal(first, transform(image))
    assert not torch.equal(first, View(transform, draw=3)(image, 7))
    choice = views.Choice((view,) * 4, "")
    assert [choice.pick(s) for s in (0, 2**29, 2**30, 2**31 - 1)] == [0, 1, 2, 3]


LIGHT, PLAIN, FLIPS = Augment(), Augment(None, 0.0), Augment(None, 0.5)
POLICY = [
    ("auto", FeatureExtraction(), LIGHT, 2, "in place of random crops, each image and its mirror image"),
    ("auto", FeatureExtraction(), PLAIN, 1, "one view of each image"),
    ("auto", FeatureExtraction(), Augment(trivial=True), 0, "every epoch draws new pixels"),
    ("auto", FeatureExtraction(), Augment(mixup=0.2), 0, "need images"),
    ("auto", FinetuneTop(), LIGHT, 0, "every epoch draws new pixels"),
    ("auto", FinetuneTop(), FLIPS, 2, "each image and its mirror image"),
    ("auto", FinetuneAll(), PLAIN, 0, "every stage learns"),
    ("auto", LinearProbe(), LIGHT, 1, "the head is solved"),
    ("auto", LpFt(), LIGHT, 0, "every stage learns"),
    ("off", FeatureExtraction(), PLAIN, 0, "cache=off"),
    (4, FinetuneTop(), LIGHT, 4, "4 random views"),
    (4, FinetuneTop(), FLIPS, 2, "each image and its mirror image"),
    (4, FinetuneAll(), LIGHT, 0, "every stage learns"),
]  # fmt: skip


@pytest.mark.parametrize(("cache", "strategy", "augment", "number", "reason"), POLICY)
def test_what_is_cached_and_why(cache, strategy, augment, number, reason):
    choice = choose(cache, plan_of(strategy), INPUT, augment)
    assert len(choice.views) == number
    assert reason in choice.reason


@pytest.mark.parametrize("cache", ["of", 0, -1, True, 1.5])
def test_unknown_cache(cache):
    with pytest.raises(UserError, match=r"cache=.* is unknown"):
        choose(cache, plan_of(FinetuneTop()), INPUT, LIGHT)


def test_views_of_what_is_done_to_batches_are_refused():
    with pytest.raises(UserError, match=r"cache=4: erasing, mixup and CutMix need images"):
        choose(4, plan_of(FinetuneTop()), INPUT, Augment(erasing=0.5))


def test_without_room_training_goes_on_uncached(photos, tmp_path, monkeypatch, caplog, folder):
    expected, _ = train(photos, tmp_path / "a", FeatureExtraction(), cache="off", engine="eager")
    monkeypatch.setenv("TL_CACHE_GB", "0")
    for free, on_rows in ((1e12, True), (0.0, False)):
        caplog.clear()
        monkeypatch.setattr("tl_lightning.features.extract.free_memory", lambda free=free: free)
        module, loaders = train(photos, tmp_path / f"b{free}", FeatureExtraction(), dtype="float32")
        assert isinstance(loaders, FeatureDataModule) == on_rows  # in memory, for this run
        assert caplog.text.count("more than TL_CACHE_GB=0 allows") == 1
        assert ("images are drawn as augment says" in caplog.text) != on_rows
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(module.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    caplog.clear()
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setenv("TL_CACHE", str(blocked))
    train(photos, tmp_path / "c", FeatureExtraction())
    assert caplog.text.count("cannot be written") == 1


def test_training_and_evaluation_may_differ_in_size(photos):
    """As for ResNet-50, trained at 176 px and evaluated at 224: maps of two sizes, each at its own."""
    data, network = tiny_data(photos), warmed()
    data.input = network.input = INPUT.__class__(16, 24, 26, "bilinear", INPUT.mean, INPUT.std)
    frozen = Frozen(network, plan_of(FinetuneTop(stages=1)), data, Options(cache=2))
    loaders, entry = frozen.loaders(CPU, 1)
    assert entry == 2
    assert next(iter(loaders.train_dataloader()))[0].shape[1:] == (6, 4, 4)
    assert next(iter(loaders.val_dataloader()))[0].shape[1:] == (6, 6, 6)


# -- engines --


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0", "inception_v3", "vgg16_bn"])
def test_folding_changes_nothing_and_leaves_no_norm(name):
    """With statistics, scales and shifts as of use: folding placeholders would prove nothing."""
    network = torchvision_backbone(name, None, 96).eval()
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.5, 2),
                                      (module.weight.data, 0.5, 2), (module.bias.data, -1, 1)):  # fmt: skip
                tensor.uniform_(low, high)
    images = torch.randn(2, 3, 96, 96)
    boundary = len(network.stages)
    folded = engine._Below(network, boundary)
    with torch.no_grad():
        assert engine.disagreement(network(images), folded(images)) < 1e-3
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("boundary", [1, 2, 3])
@pytest.mark.parametrize("choice", ["fused", "onnxruntime"])
def test_engines_agree_with_the_network(choice, boundary):
    if choice == "onnxruntime":
        pytest.importorskip("onnxruntime")
    network, images = warmed(), torch.randn(11, 3, 16, 16)
    prefix = Prefix(network, boundary, choice, CPU, 100)
    torch.testing.assert_close(prefix(images), network.run(images, 0, boundary), rtol=1e-4, atol=1e-4)
    assert prefix(images[:3]).shape[0] == 3  # any number of images
    assert prefix.name == choice
    assert not prefix(images).requires_grad


def test_an_engine_that_is_wrong_or_fails_is_not_taken(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    network, images = warmed(), torch.randn(9, 3, 16, 16)

    def wrong(*args):
        return lambda x: 1.01 * network.run(x)

    def broken(*args):
        raise RuntimeError("unsupported operator\nand more")

    monkeypatch.setattr(engine, "_has_onnxruntime", lambda: True)
    monkeypatch.setitem(engine._BUILDERS, "onnxruntime", broken)
    prefix = Prefix(network, 3, "onnxruntime", CPU, 100)
    torch.testing.assert_close(prefix(images), network(images), rtol=1e-4, atol=1e-4)
    assert prefix.name == "fused"
    assert "onnxruntime does not take this network: unsupported operator" in caplog.text
    monkeypatch.setitem(engine._BUILDERS, "fused", wrong)
    prefix = Prefix(network, 3, "fused", CPU, 100)
    assert torch.equal(prefix(images), network(images))
    assert prefix.name == "eager"
    assert "fused is off by 1.0e-02" in caplog.text


def test_auto_exports_when_enough_work_lies_ahead(monkeypatch):
    monkeypatch.setattr(engine, "_has_onnxruntime", lambda: True)
    network = warmed()
    assert Prefix(network, 3, "auto", CPU, 10)._candidates(engine.EXPORT_SECONDS / 2) == ["fused"]
    assert Prefix(network, 3, "auto", CPU, 10)._candidates(engine.EXPORT_SECONDS * 2) == ["onnxruntime", "fused"]
    monkeypatch.setattr(engine, "_has_onnxruntime", lambda: False)
    assert Prefix(network, 3, "auto", CPU, 10)._candidates(engine.EXPORT_SECONDS * 2) == ["fused"]
    with pytest.raises(UserError, match=r"pip install 'tl-lightning\[fast\]'"):
        Prefix(network, 3, "onnxruntime", CPU, 10)


def test_the_engine_leaves_the_network_as_it_was():
    network = warmed().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    Prefix(network, 2, "fused", CPU, 10)(torch.randn(8, 3, 16, 16))
    assert all(m.training for m in network.modules())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_unknown_engine_and_dtype():
    for wrong in ({"engine": "fast"}, {"dtype": "int8"}):
        with pytest.raises(UserError, match="is unknown: use"):
            Options(**wrong)
