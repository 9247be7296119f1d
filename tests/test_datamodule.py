"""Batches: pixels, order, weights."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tests.conftest import write_image
from tests.tiny import INPUT, tiny_data
from tl_lightning import machine
from tl_lightning.data import image_folder
from tl_lightning.data.images import digits, loading, transforms
from tl_lightning.data.images import image_folder as folders
from tl_lightning.data.images.transforms import ImageAugmentation
from tl_lightning.data.sampling import EpochSampler, EvalBatches
from tl_lightning.errors import UserError
from tl_lightning.inputs import ImageInput
from tl_lightning.tasks import Classification


@pytest.fixture
def uneven(tmp_path):
    root = tmp_path / "uneven"
    for folder, count in {"many": 30, "few": 10}.items():
        for i in range(count):
            write_image(root / folder / f"{i}.png", 90, i)
    return root


def test_normalise_equals_torchvision_and_restores():
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    image = ImageInput(8, 8, 8, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(image.mean, image.std)])
    torch.testing.assert_close(image.normalise(images), reference(images), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(image.restore(image.normalise(images)), images / 255, rtol=1e-5, atol=1e-6)
    room = torch.empty(images.shape)
    assert image.normalise(images, room).data_ptr() == room.data_ptr()
    assert torch.equal(room, image.normalise(images))
    floats = images.float()
    assert torch.equal(image.normalise(floats), room)
    assert torch.equal(floats, images.float())  # what was handed in stays as it was


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "inception_v3"])
def test_evaluation_pixels_equal_the_weights_own_transform(name):
    from torchvision.models import get_model_weights

    from tl_lightning.backbones.from_torchvision import entries

    entry = get_model_weights(name).DEFAULT
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (380, 500, 3), np.uint8))
    mine = entries.image_input(entry)
    batch = mine.normalise(transforms.eval_transform(mine)(image)[None])
    torch.testing.assert_close(batch[0], entry.transforms()(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"min_scale": None, "flip": 0.0}, {}, {"trivial": True}, {"erasing": 1.0}], ids=str
)
@pytest.mark.parametrize("size", [(9, 30), (200, 50)])
def test_training_pixels_are_uint8_of_the_right_size(options, size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8))
    pixels = transforms.train_transform(INPUT, ImageAugmentation(**options))(image)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, INPUT.size, INPUT.size)


def test_flip_can_be_forbidden(uneven):
    def pixels(**options):
        image = ImageInput(16, 16, 16, "bilinear", (0.0,) * 3, (1.0,) * 3)
        mirror = ImageAugmentation(None, 1.0)
        data = image_folder(image, root=str(uneven), augment=mirror, workers=0, batch_size=4, **options)
        return next(iter(data.train_dataloader())).inputs

    assert torch.equal(pixels(), pixels(flip=False).flip(-1))
    assert not torch.equal(pixels(), pixels(flip=False))


def test_order_is_a_function_of_seed_and_epoch(uneven):
    def order(seed, epoch):
        loader = tiny_data(uneven, seed=seed).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return list(loader.sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert sorted(i for i, _ in order(0, 1)) == list(range(32))


def test_pixels_do_not_depend_on_the_number_of_workers(uneven):
    def pixels(workers):
        data = tiny_data(uneven)
        data.workers = workers
        return torch.cat([batch.inputs for batch in data.train_dataloader()])

    torch.manual_seed(5)
    alone = pixels(0)
    torch.manual_seed(6)
    assert torch.equal(alone, pixels(2))


def test_loading_leaves_the_global_random_state_alone(uneven):
    data = tiny_data(uneven)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    for _ in data.train_dataloader():
        pass
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("length", [5, 8, 17])
def test_ranks_share_out_all_evaluation_images_in_as_many_batches(world, length, monkeypatch):
    seen, batches = [], set()
    for rank in range(world):
        monkeypatch.setattr("tl_lightning.data.sampling._rank_and_world", lambda r=rank: (r, world))
        mine = list(EvalBatches(length, 4))
        assert len(mine) == len(EvalBatches(length, 4))
        assert all(1 <= len(b) <= 5 for b in mine)
        batches.add(len(mine))
        seen += [i for b in mine for i, _ in b]
    assert sorted(seen) == list(range(length))
    assert len(batches) == 1


@pytest.mark.parametrize(("length", "batch"), [(5, 1), (3, 2), (2, 8)])
def test_no_rank_gets_an_empty_batch(length, batch, monkeypatch):
    counts = set()
    for rank in range(2):
        monkeypatch.setattr("tl_lightning.data.sampling._rank_and_world", lambda r=rank: (r, 2))
        mine = list(EvalBatches(length, batch))
        assert all(mine)
        counts.add(len(mine))
    assert len(counts) == 1
    with pytest.raises(UserError, match="1 samples to evaluate are too few for 2 processes"):
        list(EvalBatches(1, batch))


def test_batch_larger_than_a_ranks_share(uneven, monkeypatch):
    monkeypatch.setattr("tl_lightning.data.sampling._rank_and_world", lambda: (0, 2))
    with pytest.raises(UserError, match="each process has 16 training images"):
        tiny_data(uneven, batch_size=20).train_dataloader()


def test_ranks_share_out_training_images_evenly(monkeypatch):
    seen = []
    for rank in range(3):
        monkeypatch.setattr("tl_lightning.data.sampling._rank_and_world", lambda r=rank: (r, 3))
        mine = list(EpochSampler(10, seed=0))
        assert len(mine) == len(EpochSampler(10, seed=0)) == 3
        seen += [i for i, _ in mine]
    assert len(set(seen)) == 9


def test_balanced_sampler_draws_classes_alike(uneven):
    data = tiny_data(uneven, sampler="balanced")
    drawn = Counter()
    loader = data.train_dataloader()
    labels = [label for _, label in data.samples.split("train")]
    for epoch in range(60):
        loader.sampler.set_epoch(epoch)
        drawn.update(labels[i] for i, _ in loader.sampler)
    assert data.samples.counts("train") == [8, 24]
    assert drawn[0] / sum(drawn.values()) == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(data.task.prior(), torch.tensor([0.5, 0.5]))


def test_class_weights(uneven):
    assert tiny_data(uneven).task.weights is None
    torch.testing.assert_close(tiny_data(uneven).task.prior(), torch.tensor([0.25, 0.75]))
    auto = tiny_data(uneven, class_weights="auto")
    torch.testing.assert_close(auto.task.weights, torch.tensor([2.0, 2 / 3]))  # n / (classes * count), scikit-learn's
    torch.testing.assert_close(auto.task.prior(), torch.tensor([0.5, 0.5]))
    named = tiny_data(uneven, class_weights={"few": 3.0})
    torch.testing.assert_close(named.task.weights[0] / named.task.weights[1], torch.tensor(3.0))
    torch.testing.assert_close(tiny_data(uneven, class_weights={}).task.weights, torch.ones(2))
    assert tiny_data(uneven, class_weights=None).task.weights is None
    for wrong in ("some", {"fewer": 2.0}, {"few": 0.0}):
        with pytest.raises(UserError, match=r"data\.class_weights"):
            tiny_data(uneven, class_weights=wrong)


def test_mixing_gives_soft_labels_that_sum_to_one():
    task = Classification(("a", "b", "c"))
    mix = task.mixer(mixup=0.2, cutmix=1.0)
    images, labels = mix(torch.randn(8, 3, 16, 16), torch.arange(8) % 3)
    assert images.shape == (8, 3, 16, 16)
    torch.testing.assert_close(labels.sum(1), torch.ones(8))
    assert task.mixer(mixup=0.0, cutmix=0.0) is None


def test_batch_larger_than_the_train_set(uneven, caplog):
    assert len(next(iter(tiny_data(uneven, batch_size=33).train_dataloader()))) == 32
    assert "data.batch_size=33: there are 32 training images, which make one batch" in caplog.text
    with pytest.raises(UserError, match=r"data\.batch_size=0"):
        tiny_data(uneven, batch_size=0)
    with pytest.raises(UserError, match=r"data\.sampler"):
        tiny_data(uneven, sampler="fair")


@pytest.mark.parametrize(("seconds", "cores", "workers"), [(0.0, 6, 0), (0.002, 6, 2), (0.1, 6, 5), (0.1, 1, 1)])
def test_workers_follow_the_time_that_an_image_takes(seconds, cores, workers, uneven, monkeypatch):
    """100 images a second for each core: 0.1 s an image keep all cores but one busy, 2 ms two of six."""
    clock = [0.0]
    monkeypatch.setattr(loading.machine, "cores", lambda: cores)
    monkeypatch.setattr(loading.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(loading.torch.cuda, "is_available", lambda: False)
    images = tiny_data(uneven).images("train", transforms.eval_transform(INPUT))
    monkeypatch.setattr(loading.Images, "__getitem__", lambda self, key: clock.append(clock.pop() + seconds))
    assert loading.enough_workers(images) == (workers, pytest.approx(seconds))


def test_cores_follow_the_affinity_and_the_quota(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.cores() == 6
    for text, expected in (("max 100000", 6), ("250000 100000", 2), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text)
        assert machine.cores() == expected


def test_free_memory_is_that_of_the_container(monkeypatch, tmp_path):
    """Limit less what is taken, but for files that were read and can be dropped."""
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    whole = machine.free_memory()
    assert whole > 1e8
    for name, text in (("current", "30000000\n"), ("stat", "anon 9000000\ninactive_file 20000000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    for limit, expected in (("50000000\n", 40e6), ("5000000\n", 0.0)):
        (tmp_path / "memory.max").write_text(limit)
        assert machine.free_memory() == expected
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.free_memory() == pytest.approx(whole, rel=0.2)


def test_digits_are_written_once_whole_and_stratified():
    from sklearn.datasets import load_digits

    root = digits.folder()
    found = folders.read(root)
    assert [sum(found.counts(s)) for s in ("train", "val", "test")] == [1257, 270, 270]
    assert found.task.outputs == tuple("0123456789")
    assert max(found.counts("val")) - min(found.counts("val")) <= 2
    path, label = found.split("val")[0]
    number = int(path.rsplit("/", 1)[1].removesuffix(".png"))
    images, labels = load_digits(return_X_y=True)
    assert labels[number] == label
    assert np.array_equal(np.asarray(Image.open(path)), np.round(images[number].reshape(8, 8) * 255 / 16))
    before = (found.root / "train").stat().st_mtime_ns
    assert digits.folder() == root
    assert (found.root / "train").stat().st_mtime_ns == before
