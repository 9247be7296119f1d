"""Words on the command line."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torchvision.models import mobilenet_v2

from tests.hostile.case import Case, photos, trained

# words: what is said of them
BAD: dict[tuple[str, ...], str] = {
    ("epochs=3",): "say trainer.max_epochs=3",
    ("strategy=finetune",): "finetune_top",
    ("data.rot=x",): "did you mean data.root.*--cfg job",
    ("strategy.stages=2",): "it belongs to strategy=finetune_top",
    ("+startegy=lp_ft",): "did you mean strategy",
    ("strategy=finetune_top", "strategy.stages=9"): "5 stages",
    ("trainer.precision=fp17",): "trainer: .*fp17",
    ("lr=1e-3",): "did you mean optimizer.lr",
    ("batch_size=4",): "did you mean data.batch_size",
    ("trainer.max_epoch=3",): "did you mean trainer.max_epochs",
    ("backbone.pooling=max",): "belongs to backbone=minilm or text",
    ("strategy=finetune_al",): "did you mean finetune_all",
    ("backbone=resnet5",): "did you mean resnet50",
    ("data.sampler=balance",): "did you mean balanced",
    ("engine=quick",): "engine=quick is unknown",
    ("data.batch_size=0",): "data.batch_size=0 must be a whole number",
    ("data.batch_size=-1",): "data.batch_size=-1 must be",
    ("data.batch_size=1.5",): "data.batch_size=1.5 must be",
    ("data.batch_size=many",): "data.batch_size=many must be",
    ("data.val_fraction=nan",): "data.val_fraction=nan must be",
    ("data.val_fraction=1",): "must leave some to train on",
    ("data.workers=-1",): "data.workers=-1 must be",
    ("data.ground=transparentish",): "is no colour",
    ("data.max_megapixels=0",): "data.max_megapixels=0 must be",
    ("seed=-1",): "seed=-1 must be",
    ("trainer.max_epochs=0",): "trainer.max_epochs=0 must be",
    ("trainer.precision=16-true",): "gradients vanish",
    ("trainer.precision=8",): "trainer",
    ("trainer.accelerator=gpu",): "no usable CUDA GPU",
    ("strategy=finetune_all", "optimizer.lr=-1"): "optimizer",
    ("strategy=finetune_all", "optimizer.lr=fast"): "optimizer",
    ("data.class_weights={c: 2}",): "names the class 'c'",
    ("data.class_weights={a: -1}",): "must be positive",
    ("data.class_weights={a: .nan}",): "must be positive|must be",
    ("data.class_weights=heavy",): "is unknown: use none, auto",
    ("strategy=finetune_all", "callbacks.best.monitor=val_loss"): "did you mean val/loss",
    ("strategy=finetune_all", "callbacks.best.mode=maximum"): "mode",
    ("strategy=finetune_all", "callbacks.best.mode=min"): "is the better the higher",
    ("strategy=finetune_all", "callbacks.early_stopping.monitor=val_acc"): "did you mean val/accuracy",
    ("strategy=finetune_all", "+callbacks.x={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/accuracy}"):
        "callbacks.x.mode=min",
    ("+callbacks.x={_target_: os.system, command: 'touch CALLED'}",): "may not be built",
    ("+callbacks.x={_target_: builtins.eval}",): "may not be built",
    ("head._target_=subprocess.Popen",): "may not be built",
    ("head._target_=tl_lightning.store.clear",): "may not be built",
    ("strategy=finetune_all", "strategy.norm=train", "data.batch_size=1"): "one sample has none",
    ("resume=nowhere",): "config.yaml is missing there",
    ("data.splits=nowhere.csv",): "does not exist",
    ("data.root=[a",): "data.root=.*does not exist",
    ("=3",): "error",
    ("data.cache=cloud",): "data.cache=cloud is unknown",
    ("cache=-1",): "cache=-1 is unknown",
    ("strategy=lp_ft", "strategy.head_epochs=0"): "head_epochs=0 on random weights",
}  # fmt: skip
GOOD: dict[tuple[str, ...], str] = {
    ("data.class_weights={a: 2}",): r"val +accuracy",
    ("data.ground=black", "data.max_megapixels=0.5"): r"val +accuracy",
    ("data.batch_size=1000",): "which make one batch",
    ("strategy=finetune_all", "trainer.max_epochs=1", "trainer.accumulate_grad_batches=7"): r"val +accuracy",
    ("strategy=finetune_all", "trainer.max_epochs=1", "trainer.precision=bf16-mixed"): r"val +accuracy",
    ("strategy=finetune_all", "trainer.max_epochs=2", "callbacks.best.monitor=val/loss"): r"val +accuracy",
}
_HEAD = "path,split,class,skipped\n"
_ROWS = [f"{c}/{i}.png,{'val' if i == 5 else 'train'},{c},\n" for c in "ab" for i in range(6)]
SPLITS: dict[str, tuple[str, str]] = {
    "another's columns": ("image,label\n", "nothing below it"),
    "too few cells": (_HEAD + "a/0.png,train\n", "has not the 4 columns"),
    "an unknown split": (_HEAD + "".join(_ROWS).replace("val", "holdout"), "unknown splits"),
    "a climbing path": (_HEAD + "".join(_ROWS) + "../out.png,train,a,\n", "not below data.root"),
    "an absolute path": (_HEAD + "".join(_ROWS) + "/etc/passwd,train,a,\n", "not below data.root"),
    "a path twice": (_HEAD + "".join(_ROWS) + _ROWS[0], "2 times"),
    "an image that is gone": (_HEAD + "".join(_ROWS) + "a/9.png,train,a,\n", "names 1 samples that are not"),
    "nothing": (_HEAD, "holds no|no class|none of"),
}


def _said(words: tuple[str, ...], folder: Path) -> list[str]:
    return [w for w in trained(photos(folder / "p"), *words) if w.partition("=")[0] not in
            {x.partition("=")[0] for x in words if x.startswith(("data=",))}]  # fmt: skip


def _split(text: str, folder: Path) -> list[str]:
    (folder / "s.csv").write_text(text)
    return trained(photos(folder / "p"), f"data.splits={folder}/s.csv")


class _Evil:
    def __reduce__(self):
        return (open, ("CALLED", "w"))


def _weights(name: str, make: Callable[[Path], object], folder: Path) -> list[str]:
    make(folder / name)
    return [*trained(photos(folder / "p")), f"backbone.weights={folder / name}"]


def _state(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {**mobilenet_v2().state_dict(), **changed}


def _saved(**wrapped: object) -> Callable[[Path], object]:
    return lambda path: torch.save(wrapped, path)


_NAN = {"features.0.0.weight": torch.full((32, 3, 3, 3), float("nan"))}
WEIGHTS: dict[str, tuple[str, Callable[[Path], object], int, str]] = {
    "code in a pickle": ("w.pth", lambda p: p.write_bytes(pickle.dumps(_Evil())), 1, "is not loaded"),
    "not finite": ("w.pth", lambda p: torch.save(_state(**_NAN), p), 1, "not finite"),
    "cut": ("w.safetensors", lambda p: p.write_bytes(b"\x10\0\0\0\0\0\0\0{"), 1, "cannot be read"),
    "a text": ("w.pth", lambda p: p.write_text("hello"), 1, "cannot be read|is not loaded"),
    "of another network": ("w.pth", lambda p: torch.save({"a": torch.zeros(2)}, p), 1, "another architecture"),
    "no tensors": ("w.pth", lambda p: torch.save({"a": 1}, p), 1, "no state dict"),
    "of DDP": ("w.pth", lambda p: torch.save({f"module.{k}": v for k, v in _state().items()}, p), 0, "'module.' is taken off"),
    "of torch.compile": ("w.pth", lambda p: torch.save({f"_orig_mod.{k}": v for k, v in _state().items()}, p), 0,
                         "'_orig_mod.' is taken off"),
    "of a LightningModule": ("w.ckpt", lambda p: torch.save({"state_dict": {f"net.{k}": v for k, v in _state().items()},
                                                             "epoch": 3}, p), 0, "'net.' is taken off"),
    "in model_state_dict": ("w.pt", lambda p: torch.save({"model_state_dict": _state(), "epoch": 1}, p), 0,
                            "'model_state_dict' is taken"),
    "of an average": ("w.pth", lambda p: torch.save({"state_dict_ema": _state()}, p), 0, "'state_dict_ema' is taken"),
    "two networks": ("w.pth", lambda p: torch.save({f"{n}.{k}": v for n in ("student", "teacher")
                                                    for k, v in _state().items()}, p), 1, "several networks"),
}  # fmt: skip


def _unwritable(folder: Path) -> list[str]:
    (folder / "taken").write_text("a file")
    return trained(photos(folder / "p"), f"hydra.run.dir={folder}/taken/run")


CASES = [
    *(Case(f"words: {' '.join(w)}", partial(_said, w), 1, says, quick=True) for w, says in BAD.items()),
    *(Case(f"words: {' '.join(w)}", partial(_said, w), 0, says) for w, says in GOOD.items()),
    *(
        Case(f"splits file: {name}", partial(_split, text), 1, says, quick=True)
        for name, (text, says) in SPLITS.items()
    ),
    *(
        Case(f"weights: {name}", partial(_weights, file, make), rc, says)
        for name, (file, make, rc, says) in WEIGHTS.items()
    ),
    Case("run folder: below a file", _unwritable, 1, "cannot be read or written|Not a directory", quick=True),
]
