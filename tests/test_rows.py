"""Training on rows equals training on images; which views are kept, and why."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.frozen import CPU, plan_of, reference, warmed
from tests.tiny import INPUT, Trace, tiny_data, tiny_module, tiny_trainer
from tl_lightning import optim
from tl_lightning.data import image_folder
from tl_lightning.data.images.transforms import ImageAugmentation, train_transform
from tl_lightning.errors import UserError
from tl_lightning.features import views
from tl_lightning.features.frozen import Frozen, Options
from tl_lightning.features.rows import FeatureDataModule
from tl_lightning.features.views import View, choose
from tl_lightning.strategies import FeatureExtraction, FinetuneAll, FinetuneTop, LinearProbe, LpFt


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def train(root, folder, strategy, epochs=3, resume_at=None, augment=None, **options):
    """Train the tiny learner as a run would; gives its module and the datamodule that it trained on."""

    def one(epochs, checkpoint):
        data = tiny_data(root, batch_size=5)
        data.augment = augment or ImageAugmentation(None, 0.0)
        data.cache = "off"
        module = tiny_module(plan_of(strategy), data, schedule=optim.constant(warmup=0.0))
        frozen = Frozen(module.backbone, module.plan, data, Options(**options))
        loaders, module.input_stage = frozen.loaders(CPU, epochs)
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


@pytest.mark.parametrize(("cache", "augment"), [("auto", ImageAugmentation(None, 0.5)), (3, ImageAugmentation())])
def test_resuming_on_rows_equals_never_stopping(cache, augment, photos, tmp_path):
    options = {"augment": augment, "cache": cache}
    whole, loaders = train(photos, tmp_path / "a", FinetuneTop(stages=1), 4, **options)
    parts, _ = train(photos, tmp_path / "b", FinetuneTop(stages=1), 4, resume_at=2, **options)
    assert isinstance(loaders, FeatureDataModule)
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name


def test_mirror_images_are_drawn_half_of_the_time(photos):
    data, network = tiny_data(photos), warmed()
    data.augment = ImageAugmentation(None, 0.5)
    frozen = Frozen(network, plan_of(FeatureExtraction()), data, Options(dtype="float32"))
    loaders, boundary = frozen.loaders(CPU, 1)
    assert boundary == 3
    plain, mirrored = reference(photos, network), reference(photos, network, mirrored=True)
    counts = [0, 0]
    loader = loaders.train_dataloader()
    for epoch in range(40):
        loader.sampler.set_epoch(epoch)
        keys = list(loader.sampler)
        batches = torch.cat([batch.inputs for batch in loader])
        for (index, _), row in zip(keys, batches, strict=False):
            both = [torch.allclose(row, view[index], rtol=1e-3, atol=1e-4) for view in (plain, mirrored)]
            assert sum(both) == 1
            counts[both.index(True)] += 1
    assert counts[1] / sum(counts) == pytest.approx(0.5, abs=0.06)
    assert loaders.preview().images.shape == (16, 3, 16, 16)
    torch.testing.assert_close(loaders.preview().images[1], loaders.preview().images[0].flip(-1))


def test_random_views_are_the_training_transforms_own(photos):
    """View k of image i has the pixels that the random transform draws from the seed of (i, k)."""
    transform = train_transform(INPUT, ImageAugmentation())
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


LIGHT, PLAIN, FLIPS = ImageAugmentation(), ImageAugmentation(None, 0.0), ImageAugmentation(None, 0.5)


POLICY = [
    ("auto", FeatureExtraction(), LIGHT, 2, "in place of random crops, each image and its mirror image"),
    ("auto", FeatureExtraction(), PLAIN, 1, "one view of each image"),
    ("auto", FeatureExtraction(), ImageAugmentation(trivial=True), 0, "every epoch draws new pixels"),
    ("auto", FeatureExtraction(), ImageAugmentation(mixup=0.2), 0, "need images"),
    ("auto", FinetuneTop(), LIGHT, 0, "every epoch draws new pixels"),
    ("auto", FinetuneTop(), FLIPS, 2, "each image and its mirror image"),
    ("auto", FinetuneAll(), PLAIN, 0, "every stage learns"),
    ("auto", LinearProbe(), LIGHT, 1, "the head is solved"),
    ("auto", LpFt(), LIGHT, 0, "every stage learns"),
    ("off", FeatureExtraction(), PLAIN, 0, "as was asked for"),
    (4, FinetuneTop(), LIGHT, 4, "4 random views"),
    (4, FinetuneTop(), FLIPS, 2, "each image and its mirror image"),
    (4, FinetuneAll(), LIGHT, 0, "every stage learns"),
]  # fmt: skip


@pytest.mark.parametrize(("cache", "strategy", "augment", "number", "reason"), POLICY)
def test_what_is_cached_and_why(cache, strategy, augment, number, reason, photos):
    data = image_folder(INPUT, root=str(photos), augment=augment, batch_size=4)
    choice = choose(cache, plan_of(strategy), data)
    assert len(choice.views) == number
    assert reason in choice.reason


@pytest.mark.parametrize("cache", ["of", 0, -1, True, 1.5])
def test_unknown_cache(cache):
    with pytest.raises(UserError, match=r"cache=.* is unknown"):
        Options(cache=cache)


def test_views_of_what_is_done_to_batches_are_refused(photos):
    data = image_folder(INPUT, root=str(photos), augment=ImageAugmentation(erasing=0.5), batch_size=4)
    with pytest.raises(UserError, match=r"cache=4: erasing, mixup and CutMix need images"):
        choose(4, plan_of(FinetuneTop()), data)


def test_without_room_training_goes_on_uncached(photos, tmp_path, monkeypatch, caplog, folder):
    expected, _ = train(photos, tmp_path / "a", FeatureExtraction(), cache="off", engine="eager")
    monkeypatch.setenv("TL_CACHE_GB", "0")
    for free, on_rows in ((1e12, True), (0.0, False)):
        caplog.clear()
        monkeypatch.setattr("tl_lightning.features.extract.free_memory", lambda free=free: free)
        module, loaders = train(photos, tmp_path / f"b{free}", FeatureExtraction(), dtype="float32")
        assert isinstance(loaders, FeatureDataModule) == on_rows  # in memory, for this run
        assert caplog.text.count("more than TL_CACHE_GB=0 allows") == 1
        assert ("images are drawn anew in every epoch" in caplog.text) != on_rows
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(module.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    caplog.clear()
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setenv("TL_CACHE", str(blocked))
    train(photos, tmp_path / "c", FeatureExtraction())
    assert caplog.text.count("cannot be written") == 1


def test_a_head_to_be_solved_needs_room(photos, monkeypatch):
    frozen = Frozen(warmed(), plan_of(LpFt()), tiny_data(photos), Options(cache="off"))
    monkeypatch.setattr("tl_lightning.features.extract.free_memory", lambda: 0.0)
    with pytest.raises(UserError, match=r"to solve the head its features must be kept: .* are more than a quarter"):
        frozen.features(CPU, frozen.backbone)


def test_training_and_evaluation_may_differ_in_size(photos):
    """As for ResNet-50, trained at 176 px and evaluated at 224: maps of two sizes, each at its own."""
    network = warmed()
    network.input = INPUT.__class__(16, 24, 26, "bilinear", INPUT.mean, INPUT.std)
    augment = ImageAugmentation(trivial=True)
    data = image_folder(network.input, root=str(photos), augment=augment, batch_size=4, workers=0)
    frozen = Frozen(network, plan_of(FinetuneTop(stages=1)), data, Options(cache=2))
    loaders, boundary = frozen.loaders(CPU, 1)
    assert boundary == 2
    assert next(iter(loaders.train_dataloader())).inputs.shape[1:] == (6, 4, 4)
    assert next(iter(loaders.val_dataloader())).inputs.shape[1:] == (6, 6, 6)
