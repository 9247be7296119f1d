"""What the README says is what the program does."""

import re
from pathlib import Path

from tl_lightning.jobs.backbone_table import backbone_table
from tl_lightning.options import options, torchvision_names

REPO = Path(__file__).parents[1]
README = (REPO / "README.md").read_text()


def test_the_backbone_table_is_the_generated_one():
    """Some rows made anew, and a row for every option."""
    table = (REPO / "docs" / "backbones.md").read_text()
    for row in backbone_table(["densenet121", "efficientnet_b3", "regnet_y_400mf", "resnet50", "vgg16"]).splitlines():
        assert row in table
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == list(torchvision_names())


def test_every_strategy_is_explained():
    assert all(f"| `{name}` |" in README for name in options("strategy"))


def test_commands_name_options_that_exist():
    commands = re.findall(r"^(?:python train\.py|tl train) (.*?)$", README.replace("\\\n", " "), re.M)
    assert len(commands) >= 5
    for command in commands:
        for group, named in re.findall(r"(?<!\S)([a-z_]+)=([a-z0-9_,]+)", command):
            known = options(group)
            assert not known or set(named.split(",")) <= set(known), command


def test_make_targets_exist():
    makefile = (REPO / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target
