"""Weights between and among trained ones, chosen on the validation images: WiSE-FT and greedy soups."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from torch import Tensor, nn

from tl_lightning import machine
from tl_lightning.backbones import low_rank
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.backbones.statistics import recalibrate
from tl_lightning.data.labelled import LabelledData
from tl_lightning.errors import UserError
from tl_lightning.features import solve
from tl_lightning.features.frozen import Options, kept_rows
from tl_lightning.features.views import View
from tl_lightning.runs import cli, record
from tl_lightning.runs.build import instantiate

State = dict[str, Tensor]
_CALIBRATION = 2048  # training images that statistics are taken from anew


@dataclass(frozen=True)
class Judge:
    """A finished run's network and data, to score other weights with."""

    network: nn.Sequential
    data: LabelledData
    facts: dict[str, Any]

    @property
    def backbone(self) -> Backbone:
        """The network without its head."""
        backbone = self.network[0]
        assert isinstance(backbone, Backbone)
        return backbone

    def load(self, state: State, anew: bool) -> None:
        """Put weights in; `anew`: BatchNorm's statistics are taken from training images."""
        record.load_state(state, self.backbone.net, self.network[1])
        if anew:
            recalibrate(self.network, self._looks())

    @torch.no_grad()
    def accuracy(self) -> float:
        """On the validation images."""
        right = total = 0
        for pixels, labels in self.data.val_dataloader():
            logits = self.network(self.data.input.normalise(pixels))
            found = ((logits > 0) == labels.bool()).all(1) if labels.ndim == 2 else logits.argmax(1) == labels
            right, total = right + int(found.sum()), total + len(labels)
        return right / total

    def _looks(self) -> Iterator[Tensor]:
        """Normalised training images, up to 2,048 of them, in batches."""
        images = self.data.looks("train", self.data.still)
        picked = np.random.default_rng(0).permutation(len(images))[:_CALIBRATION]
        for part in np.array_split(picked, max(1, len(picked) // 64)):
            yield self.data.input.normalise(self.data.stack([images[int(i), 0][0] for i in part]))


def judge(run: Path) -> Judge:
    """The network, the data and the facts of a finished run."""
    network, facts = record.load_model(run)
    assert isinstance(network, nn.Sequential)
    cfg = _config(run)
    cfg.data.splits = str(run / "splits.csv")
    data = instantiate(cfg.data)(network[0].input, instantiate(cfg.augment))
    return Judge(network, data, facts)


def _config(run: Path) -> DictConfig:
    cli.register_resolvers()
    cfg = OmegaConf.load(run / "config.yaml")
    assert isinstance(cfg, DictConfig)
    return cfg


def between(start: State, end: State, alpha: float) -> State:
    """(1 - alpha) x start + alpha x end; counters are the end's."""
    return {k: torch.lerp(start[k], v, alpha) if v.is_floating_point() else v for k, v in end.items()}


def mean_of(states: list[State]) -> State:
    """The plain mean of weights; counters are the first's."""
    first = states[0]
    return {k: torch.stack([s[k] for s in states]).mean(0) if v.is_floating_point() else v for k, v in first.items()}


def statistics_differ(states: list[State]) -> bool:
    """Whether BatchNorm's statistics are not the same in all of them: their average fits none, and is taken anew."""
    kept = [{k: v for k, v in s.items() if k.endswith(("running_mean", "running_var"))} for s in states]
    return any(not torch.equal(v, other[k]) for other in kept[1:] for k, v in kept[0].items())


def pretrained_state(judge: Judge, cfg: DictConfig) -> State:
    """The backbone as it was before fine-tuning, with the linear head that is exact for it."""
    head = copy.deepcopy(judge.network[1])
    solve.linear_of(head)  # now rather than after the pass
    backbone: Backbone = instantiate(OmegaConf.create(judge.facts["strategy"])).shape(instantiate(cfg.backbone))
    view = View(judge.data.still)
    stages = len(backbone.stages)
    rows = kept_rows(
        backbone, stages, [("train", view)], judge.data, Options(), torch.device("cpu"), "to solve the head"
    )
    labels = judge.data.folder.labels("train")
    solve.install(head, solve.solve(rows[0], labels, len(judge.data.classes), judge.data.emphasis()))
    low_rank.merge(backbone.net)
    return record.state_of(backbone.net, head)


def wise(run: Path, steps: int = 10) -> dict[float, float]:
    """Validation accuracy by alpha (WiSE-FT, arXiv:2109.01903), the best of which is written to RUN/wise.

    Of several equally good ones it is the one nearest the pretrained network.
    """
    case = judge(run)
    start, end = pretrained_state(case, _config(run)), load_file(run / "model.safetensors")
    anew = statistics_differ([start, end])
    found = {}
    for alpha in (i / steps for i in range(steps + 1)):
        case.load(between(start, end, alpha), anew and 0 < alpha < 1)
        found[alpha] = case.accuracy()
        print(f"alpha {alpha:.1f}  accuracy {found[alpha]:.4f}", flush=True)
    best = max(found, key=lambda a: (found[a], -a))
    case.load(between(start, end, best), anew and 0 < best < 1)
    by_alpha = {f"accuracy/alpha={alpha:.1f}": accuracy for alpha, accuracy in found.items()}
    _write(run / "wise", case, run, {"alpha": best, "val/accuracy": found[best], **by_alpha})
    return found


def soup(sweep: Path) -> list[Path]:
    """The runs whose mean is best, found greedily (model soups, arXiv:2203.05482) and written to SWEEP/soup.

    From the best on the validation images down, a run is taken in if the mean with it is no worse.
    """
    runs = sorted(f for f in sweep.iterdir() if (f / "model.json").is_file() and (f / "metrics.json").is_file())
    if len(runs) < 2:
        raise UserError(f"{sweep} holds {len(runs)} finished runs: a soup takes at least two")
    _refuse_mixed(runs)
    scores = {r: float(json.loads((r / "metrics.json").read_text("utf-8"))["val/accuracy"]) for r in runs}
    case, chosen, best = judge(runs[0]), list[Path](), -1.0
    for run in sorted(runs, key=lambda r: -scores[r]):
        states = [load_file(r / "model.safetensors") for r in (*chosen, run)]
        case.load(mean_of(states), len(states) > 1 and statistics_differ(states))
        accuracy = case.accuracy()
        taken = accuracy >= best
        verdict = "taken" if taken else "left"
        print(f"{run.name}  alone {scores[run]:.4f}  with it {accuracy:.4f}  {verdict}", flush=True)
        if taken:
            chosen, best = [*chosen, run], accuracy
    states = [load_file(r / "model.safetensors") for r in chosen]
    case.load(mean_of(states), len(states) > 1 and statistics_differ(states))
    _write(sweep / "soup", case, chosen[0], {"val/accuracy": best, "runs": [r.name for r in chosen]})
    return chosen


def _refuse_mixed(runs: list[Path]) -> None:
    def of(run: Path) -> tuple[Any, ...]:
        facts = json.loads((run / "model.json").read_text("utf-8"))
        backbone = {k: v for k, v in facts["backbone"].items() if k != "weights"}
        split = (run / "splits.csv").read_text("utf-8")
        return facts["classes"], backbone, facts["head"], facts["features"], split

    names = ("classes", "backbone", "head", "features", "split")
    first = of(runs[0])
    for run in runs[1:]:
        for name, a, b in zip(names, first, of(run), strict=True):
            if a != b:
                raise UserError(f"{run} has another {name} than {runs[0]}: their weights cannot be averaged")


def _write(folder: Path, case: Judge, like: Path, metrics: Mapping[str, Any]) -> None:
    """A folder that load_model takes, beside the run that it came from."""
    folder.mkdir(exist_ok=True)
    record.write_weights(folder, record.state_of(case.backbone.net, case.network[1]))
    for name in ("config.yaml", "splits.csv", "model.json"):
        shutil.copy(like / name, folder / name)
    record.write_json(folder / "metrics.json", metrics)
    print(folder)


def main(key: str, act: Callable[[Path], object]) -> None:
    """`python scripts/NAME.py KEY=FOLDER`."""
    machine.set_threads()
    with cli.one_line_errors():
        said = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
        if set(said) != {key}:
            raise UserError(f"{key}=FOLDER must be given, and nothing else")
        if not Path(said[key]).is_dir():
            raise UserError(f"{key}={said[key]} is no folder")
        act(Path(said[key]))
