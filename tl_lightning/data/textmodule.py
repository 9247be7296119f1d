"""Batches of tokens for the learner, each padded to its own longest text."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tl_lightning.data import text_table
from tl_lightning.data.labelled import LabelledData
from tl_lightning.data.sampling import EvalBatches, Key, LengthBatches
from tl_lightning.data.text_table import TextTable
from tl_lightning.data.transforms import Augment
from tl_lightning.errors import UserError
from tl_lightning.inputs import TextInput

log = logging.getLogger(__name__)


class Tokens:
    """The one view of a text: its tokens, with a 1 beside each. Stands where images have a transform."""

    name = "tokens"

    def finish(self, tokens: np.ndarray) -> Tensor:
        """(T, 2) tokens and segments to (T, 3)."""
        return TextInput.marked(tokens)


class Texts(Dataset[tuple[Tensor, Any]]):
    """The tokens of a split and their labels; asked for by (index, seed), of which the seed says nothing here."""

    def __init__(self, rows: Sequence[np.ndarray], labels: np.ndarray) -> None:
        self.rows, self.labels = rows, labels
        self.lengths = np.array([len(r) for r in rows])
        self.longest = int(self.lengths.argmax()) if len(rows) else 0
        self.length = int(self.lengths.max(initial=0))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> tuple[Tensor, Any]:
        return Tokens().finish(self.rows[key[0]]), self.labels[key[0]]

    def prepared(self, index: int) -> np.ndarray:
        """(T, 2) tokens and segments."""
        return self.rows[index]


class TextDataModule(LabelledData):
    """The splits of a text table in the tokens of one backbone. `buckets`: batches hold texts of about one length."""

    augment = Augment(None, 0.0)
    draft, workers = False, 0
    still = still_train = Tokens()
    stack = staticmethod(TextInput.padded)
    pass_batch = 32  # texts at once on a CPU, where nothing is trained

    def __init__(
        self,
        folder: TextTable,
        input: TextInput,
        *,
        batch_size: int = 32,
        sampler: str = "none",
        class_weights: str | Mapping[Any, float] | None = "none",
        seed: int = 0,
        buckets: bool = True,
    ) -> None:
        super().__init__(folder, batch_size, sampler, class_weights, seed)
        if not isinstance(buckets, bool):
            raise UserError(f"data.buckets={buckets} must be true or false")
        self.input, self.buckets = input, buckets
        self.sentences = [" | ".join(text) for text, _ in folder.split("train")[:16]]
        self._texts = {split: self._encoded(split) for split in ("train", "val", "test")}

    def _encoded(self, split: str) -> Texts:
        given = [text for text, _ in self.folder.split(split)]
        rows, cut = self.input.encode(given) if given else ([], 0)
        if cut:
            log.info(
                f"tokens    {cut} of {len(rows)} {split} texts are longer than {self.input.length} tokens and are cut; "
                "backbone.length takes more"
            )
        return Texts(rows, self.folder.labels(split))

    def looks(self, split: str, transform: Any) -> Texts:
        """A split's tokens."""
        return self._texts[split]

    def pass_order(self, split: str) -> np.ndarray:
        """In which a split is looked at once: the shortest first."""
        return np.argsort(self._texts[split].lengths, kind="stable")

    def digests(self, split: str) -> list[str]:
        """Of what every text is to the network."""
        return [hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in self._texts[split].rows]

    def placed(self, rows: Tensor) -> Tensor:
        """Activations (N, T, D + 1), the mask last, cut to the longest text; pooled ones as they are."""
        return rows[:, : int(rows[..., -1].sum(1).max())] if rows.ndim == 3 else rows

    def train_batches(self) -> dict[str, Any]:
        """What tells a loader which texts to draw."""
        if not self.buckets:
            return super().train_batches()
        return {"batch_sampler": LengthBatches(self.order(), self._texts["train"].lengths, self.batch_size)}

    def batches(self, split: str) -> EvalBatches:
        """In which a split is evaluated: the shortest first."""
        return EvalBatches(len(self._texts[split]), 2 * self.batch_size, self.pass_order(split))

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of one size."""
        return self._loader("train", **self.train_batches())

    def eval_loader(self, split: str) -> DataLoader[Any]:
        """Every text of a split once."""
        return self._loader(split, batch_sampler=self.batches(split))

    def _loader(self, split: str, **order: Any) -> DataLoader[Any]:
        pin, generator = torch.cuda.is_available(), torch.Generator()  # the generator as in ImageDataModule
        return DataLoader(self._texts[split], pin_memory=pin, generator=generator, collate_fn=self._collated, **order)

    def _collated(self, samples: Sequence[tuple[Tensor, Any]]) -> tuple[Tensor, Tensor]:
        return self.stack([tokens for tokens, _ in samples]), torch.from_numpy(
            np.stack([label for _, label in samples])
        )

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Run the frozen prefix if there is one."""
        tokens, labels = batch
        return (self.prefix(tokens) if self.prefix else tokens), labels


def from_table(
    input: TextInput,
    augment: Augment,
    *,
    file: str,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    delimiter: str | None = None,
    separator: str | None = None,
    val_fraction: float = 0.2,
    test_fraction: float = 0.0,
    max_per_class: int | None = None,
    splits: str | None = None,
    split_seed: int = 0,
    **loading: Any,
) -> TextDataModule:
    """Read a file of texts (`text_table.read` says how) and load it as `loading` says (see TextDataModule)."""
    if not isinstance(input, TextInput):
        raise UserError("the backbone looks at images, and the data are texts: take backbone=minilm or backbone=text")
    table = text_table.read(
        file,
        text,
        label,
        delimiter=delimiter,
        separator=separator,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        max_per_class=max_per_class,
        seed=split_seed,
        splits_file=splits,
    )
    return TextDataModule(table, input, **loading)
