"""What a run will take on this machine, from a few of its batches: nothing is trained that is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import lightning as L
import numpy as np
import torch
from torch import nn

from tl_lightning import machine
from tl_lightning.build import Setup, build
from tl_lightning.callbacks.stopwatch import EpochTimes, Stopwatch
from tl_lightning.config.settings import Settings
from tl_lightning.features.estimate import PassEstimate
from tl_lightning.features.rows import FeatureDataModule
from tl_lightning.jobs import run_numbers
from tl_lightning.jobs.fit import quiet, shared_threads
from tl_lightning.jobs.trials import silence
from tl_lightning.learner import learner
from tl_lightning.reports.markdown import markdown
from tl_lightning.reports.phase_table import COLUMNS, table
from tl_lightning.runs.folder import RunFolder
from tl_lightning.runs.model import state_of
from tl_lightning.store import human
from tl_lightning.strategies.plan import Phase

_LIMIT = 1.5  # seconds of a pass, or of an epoch, that are tried
_PHASES = 3  # that are tried of those of a plan; others take what lies between
_EVALUATED = 2  # batches of evaluation that are tried
_ALONE = {"devices": 1, "num_nodes": 1, "strategy": "auto", "max_time": None}
_RECORDS = 4_000_000  # bytes of events, logs and the report, or so
_REPORT = 2.0  # seconds that report.html takes or so


@dataclass(frozen=True)
class Price:
    """Seconds of building (with passes that are not kept), of other passes, of solving, of each phase, and of the end.

    `passes`: seconds by what they fill in the cache, which runs with the same stages share. `memory`: bytes of this
    process at its peak; `gpu`: of the device. `cache`, `disk`: bytes that are written to the cache, and to the run.
    """

    build: float
    passes: dict[tuple[str, ...], float]
    solve: float
    phases: tuple[float, ...]
    end: float
    memory: float
    gpu: float
    cache: int
    disk: int

    @property
    def own(self) -> float:
        """Seconds that no other run can save it."""
        return self.build + self.solve + sum(self.phases) + self.end

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.own + sum(self.passes.values())


def price(settings: Settings) -> tuple[Price, Setup]:
    """The price of a run on one device, and what it is made of. What is tried in its folder is worth nothing.

    Raises UserError for bad input, as the run would.
    """
    quiet()
    machine.reset_peak()
    with silence():
        began = time.perf_counter()
        unseen = {name: spec for name, spec in settings.callbacks.items() if name != "progress"}
        setup = build(replace(settings, callbacks=unseen, logger={}, trainer={**settings.trainer, **_ALONE}))
        built = time.perf_counter() - began
        device = setup.trainer.strategy.root_device
        passes = setup.frozen.estimates(device, _LIMIT)
        solved = _solved(setup) if setup.module.plan.solve else 0.0
        phases, end, written = (
            _tried(setup, passes, RunFolder(settings.run_dir)) if setup.module.plan.phases else ((), 0.0, 0)
        )
        weights = sum(t.nbytes for t in state_of(setup.module.backbone.net, setup.module.head).values())
        memory = run_numbers.memory(setup)
        return Price(
            built + sum(found.seconds for found in passes if not any(found.keys)),
            {found.keys: found.seconds for found in passes if any(found.keys)},
            solved,
            phases,
            end + _REPORT * settings.report,
            memory.get("memory/host", 0.0),
            memory.get("memory/gpu", 0.0),
            sum(found.bytes for found in passes),
            (written or weights) + weights + _RECORDS,  # without epochs the one checkpoint is as large as the model
        ), setup


def lines(found: Price, setup: Setup) -> Iterator[str]:
    """What learns in each phase, at which rates, and what the run will take, for people."""
    module, epochs = setup.module, setup.trainer.max_epochs or 1
    yield f"strategy  {setup.strategy}"
    if boundary := module.plan.boundary:
        stages = ", ".join(module.plan.stages[:boundary])
        how = "computed once" if setup.frozen.choice.views else f"computed in every epoch: {setup.frozen.choice.reason}"
        yield f"frozen    {stages}: {how}"
    rates = module.make_optimizer([{"params": [nn.Parameter(torch.zeros(1))]}]).param_groups
    for index in range(len(module.plan.phases)):
        first, after = module.plan.span(index, epochs)
        module.members.apply(first)
        yield f"\nphase {index + 1} of {len(module.plan.phases)}: epochs {first} to {after - 1}\n"
        yield markdown(COLUMNS, table(learner(module), index, base=rates[0]["lr"]))
    yield "\n" + markdown(("what", "seconds"), [(name, f"{seconds:.1f}") for name, seconds in _parts(found) if seconds])
    if found.memory:
        yield f"memory    {human(found.memory)}" + (f", {human(found.gpu)} of the GPU" if found.gpu else "")
    yield f"disk      {human(found.disk)} in the run's folder, {human(found.cache)} in the cache"


def _parts(found: Price) -> Iterator[tuple[str, float]]:
    yield "build", found.build
    yield "frozen stages, once", sum(found.passes.values())
    yield "head solved", found.solve
    for index, seconds in enumerate(found.phases):
        yield f"phase {index + 1}", seconds
    yield "scores and report", found.end
    yield "all", found.seconds


def _solved(setup: Setup) -> float:
    """Seconds that the exact head takes, tried on features of the same size that mean nothing."""
    targets, width = setup.data.samples.targets("train"), setup.module.backbone.feature_dim
    features = np.random.default_rng(0).standard_normal((len(targets), width), dtype=np.float32)
    began = time.perf_counter()
    setup.data.task.solve(features, targets, None)
    return time.perf_counter() - began


def _tried(setup: Setup, passes: Sequence[PassEstimate], folder: RunFolder) -> tuple[tuple[float, ...], float, int]:
    """Seconds of every phase and of the scores at the end, and bytes of the checkpoints.

    Phases are entered for two epochs of a few batches, the second of which is timed; what the first takes longer is
    counted once.
    """
    module, trainer, data = setup.module, setup.trainer, setup.data
    plan, epochs = module.plan, trainer.max_epochs or 1
    places = np.unique(np.linspace(0, len(plan.phases) - 1, _PHASES).round()).astype(int)
    module.follow(replace(plan, phases=tuple(Phase(2, plan.phases[i].speeds) for i in places)))
    loaders, module.input_stage = _loaders(setup, passes)
    steps = _limited(len(loaders.train_dataloader()), trainer.limit_train_batches)
    evaluated = _limited(len(loaders.val_dataloader()), trainer.limit_val_batches)
    entered, around = _entered(trainer, module, loaders, 2 * len(places), min(_EVALUATED, evaluated))
    module.follow(plan)
    trainer.fit_loop.max_epochs = epochs
    first, second = entered[::2], entered[1::2]
    later = [timed.seconds(steps, evaluated) for timed in second]  # of one epoch of each phase that was tried
    of_phase = np.interp(range(len(plan.phases)), places, later)
    spans = [plan.span(index, epochs) for index in range(len(plan.phases))]
    seconds = tuple(float(each) * (after - start) for each, (start, after) in zip(of_phase, spans, strict=True))
    for begun, timed in zip(first, second, strict=True):
        few = len(begun.steps)
        around += max(0.0, begun.seconds(few, 0) - timed.seconds(few, 0))
    batches = math.ceil((data.samples.size("val") + data.samples.size("test")) / (2 * data.batch_size))
    written = sum(file.stat().st_size for file in folder.held if file.is_file())
    return seconds, around + batches * second[-1].evaluation_seconds(1), written


def _limited(batches: int, limit: int | float | None) -> int:
    """How many of an epoch's batches the trainer takes: a number of them, or a share."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _entered(
    trainer: L.Trainer, module: L.LightningModule, loaders: L.LightningDataModule, epochs: int, evaluated: int
) -> tuple[list[EpochTimes], float]:
    """Some epochs of a few batches, timed, and the seconds of the fit that none of them took."""
    watch = Stopwatch(_LIMIT)
    trainer.fit_loop.max_epochs = epochs
    trainer.limit_val_batches = evaluated
    trainer.callbacks.append(watch)  # type: ignore[attr-defined]  # not declared
    began = time.perf_counter()
    with shared_threads(trainer):
        trainer.fit(module, datamodule=loaders)
    return watch.epochs, time.perf_counter() - began - (watch.epochs[-1].ended - watch.epochs[0].began)


def _loaders(setup: Setup, passes: Sequence[PassEstimate]) -> tuple[L.LightningDataModule, int]:
    """The batches of the run; where its rows are not kept yet, batches of rows of their size that mean nothing."""
    choice, device = setup.frozen.choice, setup.trainer.strategy.root_device
    if not choice.views or not passes[-1].keys:
        return setup.frozen.loaders(device, setup.trainer.max_epochs or 1)
    rows = {split: np.broadcast_to(np.float16(0.1), (setup.data.samples.size(split), *shape))
            for split, shape in passes[-1].shapes.items()}  # fmt: skip
    views = {split: [array] * (len(choice.views) if split == "train" else 1) for split, array in rows.items()}
    return FeatureDataModule(setup.data, views, choice), setup.module.plan.boundary
