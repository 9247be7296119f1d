"""The command line as a user types it: true processes, their output, their exit code."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import QUICK, REPO, refused, tl
from tl_lightning.cli.one_line_errors import one_line_errors
from tl_lightning.config.compose import check_choices
from tl_lightning.config.words import arguments


def test_asking_for_the_configuration_imports_no_torch(tmp_path):
    """`--cfg job` in the very process that answers it, which then lists what it imported."""
    code = (
        "import sys, atexit; sys.argv = ['train.py', '--cfg', 'job', 'data.root=x'];"
        "atexit.register(lambda: print('torch' in sys.modules, 'lightning' in sys.modules, 'hydra' in sys.modules));"
        "from tl_lightning.cli.verbs import script; script('train')"
    )
    result = tl("-c", code, cwd=tmp_path, program=(sys.executable,))
    assert "strategy:" in result.stdout
    assert result.stdout.splitlines()[-1] == "False False True"


def test_help_lists_groups_and_options(tmp_path):
    result = tl("--help", cwd=tmp_path)
    for text in (
        "backbone: alexnet, convnext_base",
        "strategy: auto, bitfit, early_features",
        "`trainer.strategy`",
        "data.root=photos",
    ):
        assert text in result.stdout


def test_a_run_ends_with_its_folder(photos, tmp_path):
    result = tl(*QUICK, f"data.root={photos}", cwd=tmp_path, fork=False)
    assert (result.returncode, result.stderr) == (0, "")
    run = Path(result.stdout.strip().splitlines()[-1])
    assert run.parent.parent == tmp_path / "outputs"
    assert "random weights: nothing is transferred" in result.stdout
    assert (run / ".hydra" / "overrides.yaml").is_file()
    assert (run / "train.log").is_file()
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 1
    assert result.stderr == ""


def test_a_sweep_fills_a_folder_per_job(photos, tmp_path):
    result = tl(*QUICK, f"data.root={photos}", "-m", "backbone=resnet18,mobilenet_v2",
                "strategy=feature_extraction,finetune_top", cwd=tmp_path)  # fmt: skip
    assert result.returncode == 0, result.stderr
    jobs = sorted((tmp_path / "multirun").glob("*/*/*/metrics.json"))
    assert [p.parent.name for p in jobs] == ["0", "1", "2", "3"]
    chosen = {json.loads((p.parent / "model.json").read_text())["backbone"]["name"] for p in jobs}
    assert chosen == {"resnet18", "mobilenet_v2"}
    assert [(p.parent / "tensorboard").is_dir() for p in jobs] == [True] * 4
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if "│" in line][-4:]
    scores = {}
    for path in jobs:
        overrides = (path.parent / ".hydra" / "overrides.yaml").read_text()
        words = tuple(re.search(rf"^- {word}=(.*)$", overrides, re.M)[1] for word in ("backbone", "strategy"))
        scores[words] = round(json.loads(path.read_text())["val/accuracy"], 4)
    assert {(backbone, strategy): float(accuracy) for _, backbone, strategy, _, accuracy, *_ in rows} == scores
    assert (jobs[0].parents[1] / "leaderboard.html").is_file()


def test_bad_words_name_the_nearest(photos, tmp_path):
    """As true processes; tests/hostile/words.py has the others."""
    root = f"data.root={photos}"
    refused(tl("backbone=resnet5", root, cwd=tmp_path, fork=False), "no backbone 'resnet5'", "did you mean", "resnet50")
    refused(tl("-m", "strategy=lp_ft,lp_tf", root, cwd=tmp_path), "no strategy 'lp_tf'", "lp_ft")
    refused(tl("data=image_folder", cwd=tmp_path), "data.root")


def test_weights_that_cannot_be_had_leave_no_folder(photos, tmp_path):
    quick = [*QUICK, f"data.root={photos}"]
    download = tl(*quick, "backbone.weights=DEFAULT", "hydra.run.dir=refused", cwd=tmp_path, fork=False)
    download.stderr = download.stderr.strip().splitlines()[-1]  # torch says first what it downloads
    refused(download, "cannot be downloaded", "put the file at", "backbone=mobilenet_v2_formula")
    assert not (tmp_path / "refused").exists()  # a refused run leaves no folder


def test_a_folder_of_any_name(photos, tmp_path):
    """Spaces, brackets and dollars in paths and class names, as typed in a shell."""
    odd = photos.rename(tmp_path / "my photos (1) [é]")
    (odd / "dark").rename(odd / "$5_$10, d'ark")
    result = tl(*QUICK, "data.root=my photos (1) [é]", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "$5_$10, d'ark" in (tmp_path / result.stdout.strip().splitlines()[-1] / "metrics.json").read_text()


def test_a_refused_job_does_not_end_a_sweep(photos, tmp_path):
    result = tl("-m", *QUICK, f"data.root={photos}", "strategy=gradual_unfreeze,feature_extraction", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.strip().endswith("error: 1 of the sweep's runs could not be made: 0")
    assert "Traceback" not in result.stderr
    assert "max_epochs=1 is too short" in next((tmp_path / "multirun").glob("*/*/0/train.log")).read_text()
    assert "max_epochs=1 is too short" in result.stdout
    assert [p.parent.name for p in (tmp_path / "multirun").glob("*/*/*/metrics.json")] == ["1"]


def test_a_sweep_of_which_some_jobs_are_refused_ends_with_its_table(photos, tmp_path):
    result = tl("-m", *QUICK, f"data.root={photos}", "strategy=gradual_unfreeze,feature_extraction", "seed=0,1",
                cwd=tmp_path)  # fmt: skip
    assert result.stderr.strip().endswith("error: 2 of the sweep's runs could not be made: 0, 1")
    assert re.search(r"best: .*strategy=feature_extraction.*: val/accuracy 0\.\d{4} ± 0\.\d{4}", result.stdout)
    assert result.stdout.count("failed: ") == 2


def test_debug_shows_the_traceback(tmp_path):
    result = tl("data.root=nowhere", "debug=true", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "UserError" in result.stderr


def test_stopped_before_it_trains(capsys):
    with pytest.raises(SystemExit), one_line_errors():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "stopped by hand\n"


def test_arguments_and_choices():
    assert arguments(["resume=run", "data.file=y"]) == ["resume=run", "++data.file=y"]
    assert arguments(["data.root=x"]) == ["data.root=x", "data=image_folder"]
    assert arguments(["data.root=x", "data=digits"]) == ["data.root=x", "data=digits"]
    assert arguments(["backbone=vgg16"]) == ["backbone=vgg16"]
    check_choices(["backbone=resnet18,vgg16", "experiment=null", "data.root=a=b", "-m", "seed=3"])


def test_console_script_finds_its_configuration_in_an_installed_wheel(tmp_path):
    """conf/ travels inside the wheel."""
    import zipfile

    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(REPO),
    ]
    try:
        __import__("hatchling")
    except ImportError:
        pytest.skip("hatchling is not installed here")
    subprocess.run(build, check=True, timeout=120)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert "tl_lightning/conf/train.yaml" in names
    assert "tl_lightning/conf/backbone/torchvision.yaml" in names
    assert not any(n.startswith("tests/") for n in names)
