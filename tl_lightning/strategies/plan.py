"""What learns, when and how fast: a plan is data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tl_lightning import checks
from tl_lightning.errors import UserError

if TYPE_CHECKING:
    from tl_lightning.backbones.backbone import Backbone
    from tl_lightning.transferability.evidence import Evidence

HEAD = "head"
SOURCE_HEAD = "source_head"  # the source's own classifier, where a regularizer trains it along
NORMS = ("eval", "track", "train")
PARAMETERS = ("all", "norm", "bias", "lora")


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs in which every stage and the head have one speed each.

    A speed multiplies the base rate; 0 means frozen. `epochs` None means the rest of the run.
    """

    epochs: int | None
    speeds: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """Phases for the stages of one backbone; `norm` says what BatchNorm does in a stage that learns.

    `norm`: "eval" keeps the stored statistics and trains scale and shift; "track" lets the statistics follow
    the new data and keeps scale and shift; "train" does both, as from scratch. A frozen stage keeps all of it.
    `solve`: before the first epoch the head is solved exactly on the features; then there may be no phase at all.
    `parameters`: which of a stage that learns do so: "all", those of "norm" layers, every "bias", or low-rank updates
    ("lora"); members.py says which these are.
    Raises ValueError unless every phase gives each stage and the head a speed, and something learns in it; UserError
    for values that a user has given.
    """

    stages: tuple[str, ...]
    phases: tuple[Phase, ...]
    norm: str = "eval"
    solve: bool = False
    parameters: str = "all"

    def __post_init__(self) -> None:
        checks.one_of("strategy.norm", self.norm, NORMS)
        checks.one_of("strategy.parameters", self.parameters, PARAMETERS)
        if not (self.phases or self.solve) or any(p.epochs is None for p in self.phases[:-1]):
            raise ValueError("a plan needs phases, and all but the last need a number of epochs")
        if any(p.epochs is not None and p.epochs < 1 for p in self.phases):
            raise UserError("every phase of a strategy must last at least one epoch")
        for i, phase in enumerate(self.phases):
            if set(phase.speeds) != {*self.stages, HEAD}:
                raise ValueError(
                    f"phase {i} must give a speed to exactly {[*self.stages, HEAD]}, not {list(phase.speeds)}"
                )
            if min(phase.speeds.values()) < 0 or max(phase.speeds.values()) == 0:
                raise UserError(
                    f"phase {i}: speeds must not be negative, and something must learn: {dict(phase.speeds)}"
                )

    @property
    def starts(self) -> tuple[int, ...]:
        """The epoch at which each phase begins."""
        starts = [0]
        for phase in self.phases[:-1]:
            starts.append(starts[-1] + (phase.epochs or 0))
        return tuple(starts)

    def index(self, epoch: int) -> int:
        """Which phase an epoch belongs to; the last one never ends."""
        return max(i for i, start in enumerate(self.starts) if start <= epoch)

    def span(self, index: int, max_epochs: int) -> tuple[int, int]:
        """First epoch of a phase and the epoch after its last."""
        ends = [*self.starts[1:], max_epochs]
        return self.starts[index], ends[index]

    def speed(self, index: int, name: str) -> float:
        """Of a stage or the head in a phase; the source's head goes with the stage that it reads."""
        return self.phases[index].speeds[self.stages[-1] if name == SOURCE_HEAD else name]

    def learns_ever(self, name: str) -> bool:
        """Whether a stage (or the head) moves in any phase, or the head is solved."""
        return any(self.speed(i, name) > 0 for i in range(len(self.phases))) or (name == HEAD and self.solve)

    @property
    def boundary(self) -> int:
        """Index of the first stage that ever moves: what lies below computes the same from the first epoch to the last.

        The number of stages where only the head learns.
        """
        return next((i for i, name in enumerate(self.stages) if self.learns_ever(name)), len(self.stages))

    @property
    def moves(self) -> bool:
        """Whether any stage ever learns."""
        return self.boundary < len(self.stages)

    def check_length(self, max_epochs: int) -> None:
        """Raise UserError unless every phase gets at least one epoch of a run this long."""
        if max_epochs <= self.starts[-1]:
            raise UserError(
                f"trainer.max_epochs={max_epochs} is too short for the strategy's phases, the last of which starts at "
                f"epoch {self.starts[-1]}: raise max_epochs above {self.starts[-1]} or shorten the phases"
            )


@dataclass
class Facts:
    """What a strategy may ask before it answers.

    `small_rates`: high rates would destroy what photographs or texts taught the weights. `all_layers`: the last layer
    is not the best to read. `noun`: what a sample is. `measure` takes a pass over the training samples; `attempt` gives
    the accuracy of a strategy on some of them after so many seconds of training on the others.
    """

    pretrained: bool
    small_rates: bool
    outputs: int
    train_samples: int
    all_layers: bool = False
    noun: str = "images"
    measure: Callable[[], Evidence] | None = field(default=None, compare=False)
    evidence: Evidence | None = None
    attempt: Callable[[Strategy, float], float] | None = field(default=None, compare=False)

    def measured(self) -> Evidence:
        """The evidence, found when it is first asked for. Raises ValueError where nothing measures."""
        if self.evidence is None:
            if self.measure is None:
                raise ValueError("nothing measures here")
            self.evidence = self.measure()
        return self.evidence


@dataclass(frozen=True)
class Strategy:
    """How much of a backbone learns. `plan` must be written; the other two have defaults."""

    def given(self, facts: Facts) -> Strategy:
        """The strategy to follow for this task: itself, unless it leaves something open."""
        return self

    def shape(self, backbone: Backbone) -> Backbone:
        """The backbone as this strategy uses it: unchanged."""
        return backbone

    def plan(self, stages: Sequence[str]) -> Plan:
        """What learns, for a backbone of these stages."""
        raise NotImplementedError


@dataclass(frozen=True)
class FineTuning(Strategy):
    """A strategy that moves pretrained stages.

    The topmost stage learns at `speed` x base rate and each stage below at `decay` x the rate of the one above.
    None is filled in from the weights: those that photographs taught move gently (0.1, 0.6, statistics kept); those
    pretrained on drawn images, and random ones, have little to lose (1, 1, statistics learned).
    """

    speed: float | None = None
    decay: float | None = None
    norm: str | None = None

    def __post_init__(self) -> None:
        checks.number("strategy.speed", self.speed, 0, optional=True)
        checks.number("strategy.decay", self.decay, 0, optional=True)
        if self.norm is not None:
            checks.one_of("strategy.norm", self.norm, NORMS)

    def given(self, facts: Facts) -> Strategy:
        """Open values filled in for what the weights are."""
        speed, decay, norm = (0.1, 0.6, "eval") if facts.small_rates else (1.0, 1.0, "train")
        return replace(
            self,
            speed=speed if self.speed is None else self.speed,
            decay=decay if self.decay is None else self.decay,
            norm=norm if self.norm is None else self.norm,
        )

    def speeds(self, stages: Sequence[str], learning: int) -> dict[str, float]:
        """Speeds with the `learning` topmost stages and the head at work, the rest frozen.

        Raises ValueError where speed or decay is still open.
        """
        if self.speed is None or self.decay is None:
            raise ValueError("ask given(facts) first: speed and decay are still open")
        depth = {name: len(stages) - 1 - i for i, name in enumerate(stages)}
        return {n: self.speed * self.decay**d if d < learning else 0.0 for n, d in depth.items()} | {HEAD: 1.0}
