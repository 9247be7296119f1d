"""Weights between and among trained ones, chosen on the validation samples: WiSE-FT and greedy soups."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tl_lightning import targets
from tl_lightning.backbones import low_rank
from tl_lightning.backbones.backbone import Backbone
from tl_lightning.build import made
from tl_lightning.errors import UserError
from tl_lightning.features.frozen import Options, kept_rows
from tl_lightning.features.views import View
from tl_lightning.heads import solve
from tl_lightning.jobs.judge import Judge, judge
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import state_of, write_weights

State = dict[str, Tensor]


def interpolate(start: State, end: State, alpha: float) -> State:
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


def pretrained_state(judge: Judge) -> State:
    """The backbone as it was before fine-tuning, with the linear head that is exact for it.

    Raises UserError for a head that is not linear.
    """
    head = copy.deepcopy(judge.model.head)
    solve.linear_of(head)  # now rather than after the pass
    strategy = targets.build(judge.model.facts["strategy"], judge.settings.allow)
    backbone: Backbone = strategy.shape(made(judge.settings, "backbone"))
    wanted, device = [("train", View(judge.data.eval_transform))], torch.device("cpu")
    rows = kept_rows(backbone, len(backbone.stages), wanted, judge.data, Options(), device, "to solve the head")
    solve.install(head, judge.data.task.solve(rows[0], judge.data.samples.targets("train")))
    low_rank.merge(backbone.net)
    return state_of(backbone.net, head)


def wise(run: Path, steps: int = 10) -> dict[float, float]:
    """Validation accuracy by alpha (WiSE-FT, arXiv:2109.01903), the best of which is written to RUN/wise.

    Of several equally good ones it is the one nearest the pretrained network.
    """
    case = judge(run)
    start, end = pretrained_state(case), load_file(RunFolder(run).weights_file)
    anew = statistics_differ([start, end])
    found = {}
    for alpha in (i / steps for i in range(steps + 1)):
        case.load(interpolate(start, end, alpha), anew and 0 < alpha < 1)
        found[alpha] = case.accuracy()
        print(f"alpha {alpha:.1f}  accuracy {found[alpha]:.4f}", flush=True)
    best = max(found, key=lambda a: (found[a], -a))
    case.load(interpolate(start, end, best), anew and 0 < best < 1)
    by_alpha = {f"accuracy/alpha={alpha:.1f}": accuracy for alpha, accuracy in found.items()}
    _write(run / "wise", case, run, {"alpha": best, "val/accuracy": found[best], **by_alpha})
    return found


def soup(sweep: Path) -> list[Path]:
    """The runs whose mean is best, found greedily (model soups, arXiv:2203.05482) and written to SWEEP/soup.

    From the best on the validation samples down, a run is taken in if the mean with it is no worse. Raises UserError
    for fewer than two finished runs, and for runs whose weights cannot be averaged.
    """
    folders = [RunFolder(f) for f in sweep.iterdir()]
    runs = sorted(f.path for f in folders if f.model_file.is_file() and f.metrics_file.is_file())
    if len(runs) < 2:
        raise UserError(f"{sweep} holds {len(runs)} finished runs: a soup takes at least two")
    _refuse_mixed(runs)
    case, chosen, best = judge(runs[0]), list[Path](), float("-inf")
    monitor = case.data.task.monitor
    scores = {r: float(RunFolder(r).metrics()[monitor]) for r in runs}
    for run in sorted(runs, key=lambda r: scores[r], reverse=case.data.task.rises(monitor)):
        states = [load_file(RunFolder(r).weights_file) for r in (*chosen, run)]
        case.load(mean_of(states), len(states) > 1 and statistics_differ(states))
        accuracy = case.accuracy()
        taken = accuracy >= best
        verdict = "taken" if taken else "left"
        print(f"{run.name}  alone {scores[run]:.4f}  with it {accuracy:.4f}  {verdict}", flush=True)
        if taken:
            chosen, best = [*chosen, run], accuracy
    states = [load_file(RunFolder(r).weights_file) for r in chosen]
    case.load(mean_of(states), len(states) > 1 and statistics_differ(states))
    _write(sweep / "soup", case, chosen[0], {"val/accuracy": best, "runs": [r.name for r in chosen]})
    return chosen


def _refuse_mixed(runs: list[Path]) -> None:
    """Raise UserError unless all runs have the same classes, network, head and split."""

    def of(run: Path) -> tuple[Any, ...]:
        facts = RunFolder(run).facts()
        backbone = {k: v for k, v in facts["backbone"].items() if k != "weights"}
        split = RunFolder(run).splits_file.read_text("utf-8")
        return facts["classes"], backbone, facts["head"], facts["features"], split

    names = ("classes", "backbone", "head", "features", "split")
    first = of(runs[0])
    for run in runs[1:]:
        for name, a, b in zip(names, first, of(run), strict=True):
            if a != b:
                raise UserError(f"{run} has another {name} than {runs[0]}: their weights cannot be averaged")


def _write(folder: Path, case: Judge, like: Path, metrics: Mapping[str, Any]) -> None:
    """A folder that loads like a run's, beside the run that it came from."""
    folder.mkdir(exist_ok=True)
    result, source = RunFolder(folder), RunFolder(like)
    write_weights(result, state_of(case.model.backbone.net, case.model.head))
    for file in (source.config_file, source.splits_file, source.model_file):
        shutil.copy(file, folder / file.name)
    if source.library.is_dir():
        shutil.copytree(source.library, result.library, dirs_exist_ok=True)
    result.write_json(result.metrics_file, metrics)
    print(folder)
