"""The stream of drawn images as Lightning asks for it: one epoch after another, each from its own seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from tl_lightning import checks
from tl_lightning.errors import UserError
from tl_lightning.pretraining import fractals, noise
from tl_lightning.pretraining.scenes import Stream


@dataclass(frozen=True)
class Curriculum:
    """How images change over a run.

    The last `late` share of the epochs is in `sizes[1]` pixels, the rest in `sizes[0]`. Difficulty rises from 0 to 1
    between the shares `ramp` of the epochs. Raises UserError for a share that is none.
    """

    sizes: tuple[int, int] = (64, 96)
    late: float = 0.3
    ramp: tuple[float, float] = (0.1, 0.7)

    def __post_init__(self) -> None:
        checks.number("data.late", self.late, 0, 1)


class DrawnImages(L.LightningDataModule):
    """`views` new images an epoch, of `systems` systems over `materials` materials, as a `curriculum` has it.

    What an epoch draws depends on the seed, the epoch, the rank and the worker alone, so that a run that was stopped
    goes on with the images that it would have seen.
    """

    def __init__(
        self,
        systems: int,
        materials: int,
        views: int,
        batch_size: int,
        *,
        seed: int,
        workers: int = 0,
        **curriculum: Any,
    ) -> None:
        super().__init__()
        self.curriculum = Curriculum(**curriculum)
        if views < batch_size:
            raise UserError(f"data.views={views} an epoch must be at least data.batch_size={batch_size}")
        self.systems, self.materials = fractals.sample(systems, seed), noise.sample(materials, seed)
        self.views, self.batch_size, self.seed, self.workers = views, batch_size, seed, workers

    def size(self, epoch: int, epochs: int) -> int:
        """Pixels of an epoch's images."""
        return self.curriculum.sizes[epoch >= round((1 - self.curriculum.late) * epochs)]

    def difficulty(self, epoch: int, epochs: int) -> float:
        """How difficult an epoch's scenes are."""
        start, end = (share * epochs for share in self.curriculum.ramp)
        return min(1.0, max(0.0, (epoch - start) / max(end - start, 1e-9)))

    def stream(self, epoch: int, epochs: int, views: int, rank: int) -> Stream:
        """What a rank sees of an epoch, in batches."""
        size, difficulty = self.size(epoch, epochs), self.difficulty(epoch, epochs)
        batches, seed = views // self.batch_size, (self.seed, epoch, rank)
        return Stream(self.systems, self.materials, size, batches, self.batch_size, difficulty, seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """This rank's images of the trainer's current epoch."""
        trainer: Any = self.trainer
        views = self.views // trainer.world_size
        stream = self.stream(trainer.current_epoch, trainer.max_epochs, views, trainer.global_rank)
        return DataLoader(stream, batch_size=None, num_workers=self.workers)
