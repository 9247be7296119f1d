"""Batches of tokens for the learner, each padded to its own longest text."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tl_lightning import checks
from tl_lightning.bar import Bar
from tl_lightning.batch import Batch
from tl_lightning.data.datamodule import LabelledData, Preview
from tl_lightning.data.issues import Issue
from tl_lightning.data.loader_options import Loading, grouped
from tl_lightning.data.sampling import EpochLoader, EvalBatches, Key, LengthBatches
from tl_lightning.data.splits import SplitOptions
from tl_lightning.data.table import Format
from tl_lightning.data.texts import text_table as tables
from tl_lightning.data.texts.text_issues import text_issues
from tl_lightning.data.texts.text_table import TextColumns, TextTable
from tl_lightning.errors import UserError
from tl_lightning.inputs import TextInput
from tl_lightning.tasks.inferred import infer
from tl_lightning.tasks.task import MakeTask

log = logging.getLogger(__name__)

_AT_ONCE = 1000  # texts, between two looks at the clock


class Tokens:
    """The one form of a text: its tokens and segments (T, 2), as they are."""

    name = "tokens"

    def finish(self, tokens: np.ndarray) -> np.ndarray:
        """(T, 2) tokens and segments."""
        return tokens


class Texts(Dataset[tuple[np.ndarray, Any, int]]):
    """Tokens and segments (T, 2) of a split, with target and place; asked for by (index, seed)."""

    def __init__(self, rows: Sequence[np.ndarray], targets: np.ndarray) -> None:
        self.rows, self.targets = rows, targets
        self.lengths = np.array([len(r) for r in rows])
        self.longest = int(self.lengths.argmax()) if len(rows) else 0
        self.length = int(self.lengths.max(initial=0))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> tuple[np.ndarray, Any, int]:
        return self.rows[key[0]], self.targets[key[0]], key[0]

    def prepared(self, index: int) -> np.ndarray:
        """(T, 2) tokens and segments."""
        return self.rows[index]


class TextDataModule(LabelledData):
    """The splits of a text table in the tokens of one backbone. `buckets`: batches hold texts of about one length."""

    input: TextInput
    workers = 0
    eval_transform = train_transform = Tokens()
    pass_batch = TextInput.at_once

    def __init__(
        self, samples: TextTable, input: TextInput, loading: Loading | None = None, *, buckets: bool = True
    ) -> None:
        super().__init__(samples, loading or Loading())
        checks.boolean("data.buckets", buckets)
        self.input, self.buckets = input, buckets
        self._texts = {split: self._encoded(split) for split in ("train", "val", "test")}

    def _encoded(self, split: str) -> Texts:
        given = [text for text, _ in self.samples.split(split)]
        rows: list[np.ndarray] = []
        cut = 0
        with Bar(len(given), "texts", "tokens") as shown:
            for start in range(0, len(given), _AT_ONCE):
                encoded, too_long = self.input.encode(given[start : start + _AT_ONCE])
                rows.extend(encoded)
                cut += too_long
                shown.advance(len(encoded))
        if cut:
            log.info(
                f"tokens    {cut} of {len(rows)} {split} texts are longer than {self.input.length} tokens and are cut; "
                "backbone.length takes more"
            )
        return Texts(rows, self.samples.targets(split))

    def issues(self) -> Iterator[Issue]:
        """What is wrong with the texts."""
        yield from super().issues()
        used = [i for i in self.samples.items if not i.skipped]
        yield from text_issues({item.path: self.samples.sample(item) for item in used})

    def preview(self) -> Preview:
        """The first training texts."""
        return Preview(texts=[" | ".join(text) for text, _ in self.samples.split("train")[:16]])

    def dataset(self, split: str, transform: Any) -> Texts:
        """A split's tokens."""
        return self._texts[split]

    def pass_order(self, split: str) -> np.ndarray:
        """(N,): the shortest first."""
        return np.argsort(self._texts[split].lengths, kind="stable")

    def digests(self, split: str) -> list[str]:
        """Of what every text is to the network."""
        return [hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in self._texts[split].rows]

    def stack(self, samples: Sequence[np.ndarray]) -> Mapping[str, Tensor]:
        """Tokens and segments (T, 2) as (N, T) by name, padded to the longest."""
        return self.input.collate(samples)

    def to_memory_format(self, rows: Tensor) -> Tensor:
        """Activations (N, T, D + 1), the mask last, cut to the longest text; pooled ones (N, D) as they are."""
        return rows[:, : int(rows[..., -1].sum(1).max())] if rows.ndim == 3 else rows

    def train_batches(self) -> dict[str, Any]:
        """What tells a loader which texts to draw."""
        if not self.buckets:
            return super().train_batches()
        return {"batch_sampler": LengthBatches(self.order(), self._texts["train"].lengths, self.batch_size)}

    def eval_batches(self, split: str) -> EvalBatches:
        """In which a split is evaluated: the shortest first."""
        return EvalBatches(len(self._texts[split]), 2 * self.batch_size, self.pass_order(split))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of one size."""
        return self._loader("train", **self.train_batches())

    def eval_dataloader(self, split: str) -> DataLoader[Batch]:
        """Every text of a split once."""
        return self._loader(split, batch_sampler=self.eval_batches(split))

    def _loader(self, split: str, **order: Any) -> DataLoader[Batch]:
        options = {**self.loader_options(), **order}
        texts: Any = self._texts[split]
        return EpochLoader(texts, collate_fn=self.collate, **options)


def text_table(
    input: TextInput, task: MakeTask = infer, *, file: Any, buckets: bool = True, **options: Any
) -> TextDataModule:
    """A file (or a DataFrame) of texts in batches; columns by TextColumns, divided by SplitOptions, loaded by Loading.

    Raises UserError for anything that cannot be trained on, TypeError for an unknown option.
    """
    if not isinstance(input, TextInput):
        raise UserError("the backbone looks at images, and the data are texts: take backbone=minilm or backbone=text")
    columns, written, division, loading = grouped(options, TextColumns, Format, SplitOptions, Loading)
    return TextDataModule(tables.read(file, task, columns, division, written), input, loading, buckets=buckets)
