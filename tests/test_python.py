"""From Python: the same words, errors and runs as on the command line; data as they are at hand."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch.callbacks import Callback
from PIL import Image
from safetensors.torch import load_file

import tl_lightning as tl
from tests.commands import tl as command
from tests.small import PROBE, WORDS
from tests.texts import write_texts
from tl_lightning.data import image_folder
from tl_lightning.strategies import LinearProbe

pd = pytest.importorskip("pandas")


def test_python_and_the_command_line_make_the_same_run(photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "python", **WORDS)
    flat = {**WORDS, "trainer.max_epochs": 1, "trainer": "cpu"}
    said = [f"{k}={'null' if v is None else v}" for k, v in flat.items()]
    result = command(*said, f"data.root={photos}", f"hydra.run.dir={tmp_path}/line", cwd=tmp_path,
                     env={"OMP_NUM_THREADS": "1"})  # fmt: skip
    assert result.returncode == 0, result.stderr
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (run.path, tmp_path / "line"))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    other = tl.load(tmp_path / "line")
    first, second = ({k: v for k, v in r.metrics.items() if not k.startswith(("seconds/", "memory/"))}
                     for r in (run, other))  # fmt: skip
    assert first == second
    assert other.predict(photos).answers == run.predict(photos).answers


def test_what_python_shows_in_a_line(photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    said, found = repr(run.predict(photos)), repr(run.evaluate())
    assert said.startswith(f"<24 predictions: {photos}/dark/00.png: dark; ") and len(said) < 500
    assert found.startswith("<4 images: val/accuracy 1.0000, ") and len(found) < 200


def test_notebooks_find_what_follows_a_dot():
    assert {"train", "load", "advise", "doctor", "backbones", "strategies", "UserError"} <= set(dir(tl))
    import tl_lightning.strategies

    assert "LinearProbe" in dir(tl_lightning.strategies)


def test_predict_takes_whatever_an_image_is(photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    dark, light = photos / "dark" / "00.png", photos / "light" / "00.png"
    expected = run.predict([dark, light])
    assert expected.answers == ["dark", "light"]
    assert expected.probabilities.shape == (2, 2)
    np.testing.assert_allclose(expected.probabilities.sum(1), 1, rtol=1e-5)
    pictures = [Image.open(path) for path in (dark, light)]
    for given in (pictures, np.stack([np.asarray(p) for p in pictures]), [np.asarray(p) for p in pictures]):
        np.testing.assert_allclose(run.predict(given).probabilities, expected.probabilities, atol=1e-6)
    assert run.predict(str(dark)).answers == ["dark"]
    whole = tl.load(run.path).predict(photos)
    assert len(whole) == 24
    assert [a == Path(s).parent.name for s, a, _ in whole] == [True] * 24
    assert "dark" in whole._repr_html_()
    for wrong, said in ((7, "int is no image"), ("gone.jpg", "gone.jpg does not exist"), (tmp_path, None),
                        (np.zeros((4, 4, 3)), "an array float64"), ([], "list is no image")):  # fmt: skip
        if said:
            with pytest.raises(tl.UserError, match=said):
                run.predict(wrong)


def test_evaluate_gives_the_runs_own_scores_and_the_page_shows_them(photos, tmp_path):
    run = tl.train(photos, run_dir=tmp_path / "run", **PROBE)
    found = tl.load(run.path).evaluate()
    for key in ("val/accuracy", "val/macro_f1", "val/loss", "val/calibration_error"):
        assert found[key] == pytest.approx(run.metrics[key], abs=1e-5)
    with pytest.raises(tl.UserError, match="there are no test images"):
        run.evaluate("test")
    page = run._repr_html_()
    assert f"{run.metrics['val/accuracy']:.4f}" in page
    assert page.count("<img") == 1
    assert "stage4" in page and "solved" in page
    assert str(run) == f"Run('{run.path}')"


def test_a_folder_of_odd_names_is_shown_escaped(photos, tmp_path):
    (photos / "dark").rename(photos / "<script>alert(1)")
    run = tl.train(photos, run_dir=tmp_path / "<b>", **PROBE)
    page = run._repr_html_() + run.predict(photos)._repr_html_()
    assert "<script>" not in page
    assert "&lt;b&gt;" in page


def test_data_frames(photos, tmp_path):
    paths = sorted(photos.rglob("*.png"))
    frame = pd.DataFrame({"image": map(str, paths), "label": [p.parent.name for p in paths], "n": range(24)})
    run = tl.train(frame, run_dir=tmp_path / "images", **PROBE)
    assert run.metrics["val/accuracy"] == 1.0
    assert run.evaluate()["val/accuracy"] == 1.0
    with pytest.raises(tl.UserError, match=r"given as an object.*evaluate it where it was trained"):
        tl.load(run.path).evaluate()
    for wrong, said in (
        (frame.assign(m=0).drop(columns="label"), "which column is the label.* DataFrame has image, n, m"),
        (frame.assign(image="gone.png"), "gone.png is 'dark' in row 1 and 'light' in row 13: keep one"),
        (frame.iloc[:0], "nothing below it"),
    ):
        with pytest.raises(tl.UserError, match=said):
            tl.train(wrong, run_dir=tmp_path / "wrong", **PROBE)


def test_data_frames_of_texts(model, tmp_path):
    pytest.importorskip("transformers")
    rows = pd.read_csv(write_texts(tmp_path / "texts.csv"))
    words = {"backbone": "text", "backbone.name": str(model), "backbone.length": 16, "strategy": "linear_probe",
             "data.batch_size": 4, "trainer": "cpu"}  # fmt: skip
    with pytest.raises(tl.UserError, match=r"which column is the text\? .*DataFrame has a, b, label"):
        tl.train(pd.DataFrame({"a": ["x"], "b": ["y"], "label": ["z"]}), **words)
    run = tl.train(rows, run_dir=tmp_path / "frame", **words)
    file = tl.train(tmp_path / "texts.csv", run_dir=tmp_path / "file", **words)
    assert run.metrics["val/loss"] == file.metrics["val/loss"]
    found = tl.load(file.path).predict(["good fox", "awful dog"])
    assert found.probabilities.shape == (2, 2)
    assert run.predict("good fox").answers == found.answers[:1]


class Greys(torch.utils.data.Dataset):
    """Flat pictures of two grey levels."""

    classes = ("night", "day")

    def __init__(self, make=lambda i: (np.full((20, 24, 3), 60 + 120 * (i % 2), np.uint8), i % 2), number=24):
        self.make, self.number = make, number

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        return self.make(index)


@pytest.mark.parametrize("strategy", ["linear_probe", "feature_extraction", "finetune_all"])
def test_a_dataset_of_images_and_labels(strategy, tmp_path):
    words = {**PROBE, "strategy": strategy, "data.workers": 2 if strategy == "finetune_all" else 0}
    run = tl.train(Greys(), run_dir=tmp_path / "run", **words)
    assert run.metrics["classes"] == ["day", "night"]
    assert 0 <= run.evaluate()["val/accuracy"] == run.metrics["val/accuracy"]
    if strategy == "linear_probe":
        assert run.predict(np.full((9, 9, 3), 60, np.uint8)).answers == ["night"]


def test_datasets_that_are_none(tmp_path):
    for make, said in (
        (lambda i: {"image": 1}, "items must be .image, label.: its first is dict"),
        (lambda i: (np.zeros((3, 9, 9), np.float32), 1), "is no image"),
        (lambda i: (np.zeros((9, 9, 3), np.uint8), 0.5), "labels must be texts or whole numbers, not float"),
        (lambda i: ("a.jpg", 1), "is no image"),
        (lambda i: (torch.randn(3, 9, 9) * 5, 1), "without normalisation"),
    ):
        with pytest.raises(tl.UserError, match=said):
            tl.train(Greys(make), run_dir=tmp_path / "run", **PROBE)
    with pytest.raises(tl.UserError, match="the dataset is empty"):
        tl.train(Greys(number=0), run_dir=tmp_path / "run", **PROBE)
    with pytest.raises(tl.UserError, match="float is no data: give a folder"):
        tl.train(0.5, **PROBE)


def test_labelled_data_of_ones_own(photos, tmp_path):
    from tl_lightning.backbones import torchvision

    network = torchvision("mobilenet_v2", "formula", 32)
    data = image_folder(network.input, root=str(photos), batch_size=4, workers=0, val_fraction=0.5)
    run = tl.train(data, backbone=network, strategy=LinearProbe(), run_dir=tmp_path / "run")
    assert run.evaluate()["val/accuracy"] == run.metrics["val/accuracy"] == 1.0
    other = torchvision("mobilenet_v2", "formula", 48)
    with pytest.raises(tl.UserError, match="made for 32 px, the backbone takes 48 px"):
        tl.train(data, backbone=other, run_dir=tmp_path / "other")


def test_objects_stand_for_groups(photos, tmp_path):
    seen = []

    class Look(Callback):
        def on_train_epoch_end(self, trainer, module):
            seen.append(trainer.current_epoch)

    tl.train(photos, run_dir=tmp_path / "run", callbacks=[Look()], **WORDS)
    assert seen == [0]


def test_objects_and_several_processes_are_refused(photos, tmp_path):
    two = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_epochs": 1}
    with pytest.raises(tl.UserError, match=r"strategy is an object, which only this process has"):
        tl.train(photos, run_dir=tmp_path / "run", **{**WORDS, "trainer": two, "strategy": LinearProbe()})


@pytest.mark.parametrize(("words", "said"), [
    ({"backbone": "resnet5"}, "no backbone 'resnet5': did you mean resnet50"),
    ({"trainer": {"max_epoch": 3}}, r"no option 'trainer.max_epoch'.*trainer.max_epochs"),
    ({"startegy": "lp_ft"}, "no option 'startegy': did you mean strategy"),
    ({"data.batch_size": 0}, "data.batch_size=0 must be a whole number"),
    ({"strategy": 7}, "strategy"),
])  # fmt: skip
def test_bad_words_are_errors_of_one_line(words, said, photos, tmp_path):
    with pytest.raises(tl.UserError, match=said) as caught:
        tl.train(photos, run_dir=tmp_path / "run", **{**WORDS, **words})
    assert "\n" not in str(caught.value)
    with pytest.raises(tl.UserError, match=r"data.root=nowhere does not exist"):
        tl.train("nowhere", run_dir=tmp_path / "run", **WORDS)


def test_two_runs_in_threads_do_not_meet(photos, tmp_path):
    """Begun in one moment without a name: each has its own folder, and is what it would have been alone."""
    alone = [tl.train(photos, run_dir=tmp_path / f"alone{s}", seed=s, **WORDS).metrics for s in (0, 1)]
    found = {}

    def one(seed):
        found[seed] = tl.train(photos, run_dir=tmp_path / f"thread{seed}", seed=seed, **WORDS)

    threads = [threading.Thread(target=one, args=(s,)) for s in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for seed in (0, 1):
        assert found[seed].metrics["val/loss"] == alone[seed]["val/loss"]
    assert alone[0]["val/loss"] != alone[1]["val/loss"]
    assert not GlobalHydra.instance().is_initialized()


def test_runs_without_a_name_have_folders_of_their_own(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [tl.train(photos, **PROBE) for _ in range(2)]
    assert len({run.path for run in runs}) == 2
    assert all(run.path.parent.parent.name == "outputs" for run in runs)


def test_advice_from_python(photos, capsys):
    words = {k: v for k, v in PROBE.items() if k != "strategy"}
    advice = tl.advise(photos, **words)
    assert advice.strategy.speed == 1.0
    assert str(advice).splitlines()[0].startswith("size      ")


def test_what_there_is():
    assert {"resnet50", "mobilenet_v2_formula", "timm"} <= set(tl.backbones())
    assert {"auto", "lp_ft"} <= set(tl.strategies())
