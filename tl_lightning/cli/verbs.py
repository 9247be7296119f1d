"""`tl VERB ...`: every verb by name, with what it says of itself; only the one that is asked for is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from tl_lightning.cli.verb_help import help_of
from tl_lightning.errors import nearest

# verb: (module below tl_lightning.cli and its function, what it does)
VERBS: dict[str, tuple[str, str, str]] = {
    "train": ("main", "train", "fine-tune a network: tl train data.root=photos backbone=resnet50 strategy=lp_ft"),
    "doctor": ("tools", "doctor", "what is wrong with a data set: tl doctor data.root=photos [out=FOLDER]"),
    "advise": ("tools", "advise", "what to train, and why, without training: tl advise data.root=photos"),
    "rank": ("tools", "rank", "backbones side by side: tl rank data.root=photos backbones=[resnet50,mobilenet_v2]"),
    "predict": (
        "run_tools",
        "predict",
        "what a trained model says of new samples, a row each: tl predict run=RUN source=new/",
    ),
    "evaluate": (
        "run_tools",
        "evaluate",
        "how good a run is, and where it errs: tl evaluate run=RUN [split=test | data.root=FOLDER]",
    ),
    "add_class": (
        "run_tools",
        "add_class",
        "a further class, without training: tl add_class run=RUN data.root=NEW",
    ),
    "report": ("run_tools", "report", "one page with all that there is to see of a run: tl report run=RUN"),
    "card": ("run_tools", "card", "the model card of a run, as hubs show it: tl card run=RUN"),
    "export": ("run_tools", "export", "the network for other programs: tl export run=RUN format=onnx"),
    "serve": ("run_tools", "serve", "the model behind HTTP, with a page to try it on: tl serve run=RUN [port=8000]"),
    "leaderboard": ("tools", "leaderboard", "the runs of sweeps, the best first: tl leaderboard multirun/DATE/TIME"),
    "wise": ("run_tools", "wise", "between the pretrained and the fine-tuned network: tl wise run=RUN"),
    "soup": ("run_tools", "soup", "the mean of a sweep's runs: tl soup sweep=multirun/DATE/TIME"),
    "cache": ("cache", "cache", "what is kept for later runs: tl cache list | size | clear"),
    "backbones": ("tools", "backbones", "torchvision's networks as a table"),
    "pretrain": ("main", "pretrain", "a network of one's own, pretrained on images that it draws"),
    "completion": ("completion", "completion", 'what makes the shell complete: eval "$(tl completion bash)"'),
}


def main() -> None:
    """`tl`: the first word is a verb."""
    said = sys.argv[1:]
    if not said or said[0] in ("-h", "--help"):
        print(help_text())
        return
    verb, *argv = said
    if verb not in VERBS:
        sys.exit(f"error: there is no verb '{verb}': {nearest(verb, VERBS)}")
    act(verb, argv)


def act(verb: str, argv: Sequence[str]) -> Any:
    """Do what a verb stands for, on these words."""
    module, function, what = VERBS[verb]
    if module.endswith("tools") and {"-h", "--help"} & set(argv):
        print(help_of(verb, what))
        return None
    run: Callable[[Sequence[str]], Any] = getattr(import_module(f"tl_lightning.cli.{module}"), function)
    return run(argv)


def help_text() -> str:
    """The verbs, a line each."""
    lines = [f"  {verb:<11} {what}" for verb, (_, _, what) in VERBS.items()]
    return "\n".join(
        [
            "usage: tl VERB [WORDS]",
            "",
            *lines,
            "",
            "tl train --help lists groups and their options, tl VERB --help the words of a verb.",
        ]
    )


def script(verb: str) -> None:
    """A script that is a door to one verb."""
    act(verb, sys.argv[1:])
