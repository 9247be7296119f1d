"""What a pretrained language model expects of a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tl_lightning.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

TOKENS = ("input_ids", "token_type_ids", "attention_mask")


@dataclass(frozen=True)
class TextInput:
    """The tokenizer of one set of weights, and what is made of its tokens.

    Texts are cut after `length` tokens. `pooling` makes one vector of a text: "mean" of its tokens, "cls" (the first),
    "last", or "max". Batches are mappings of (N, T) integers under transformers' own names (TOKENS).
    """

    length: int
    pooling: str
    tokenizer: Any
    noun: ClassVar[str] = "texts"
    fixed_size: ClassVar[bool] = False
    raw_axes: ClassVar[Mapping[str, Mapping[int, str]]] = {name: {0: "n", 1: "tokens"} for name in TOKENS}
    example: ClassVar[str] = "onnx_texts.py"
    pipeline: ClassVar[str] = "text-classification"
    in_threads: ClassVar[bool] = False  # a tokenizer is told anew with each text whether to cut it
    at_once: ClassVar[int] = 32

    def __str__(self) -> str:
        return f"up to {self.length} tokens, {self.pooling} pooled"

    def read_as(self, facts: Mapping[str, Any]) -> TextInput:
        """The same: a text is read in one way."""
        return self

    def at_most(self, megapixels: float) -> TextInput:
        """The same: a text has no pixels."""
        return self

    def facts(self) -> dict[str, Any]:
        """What a run keeps of it beside the tokenizer, which has files of its own."""
        return {"length": self.length, "pooling": self.pooling}

    @property
    def meaning(self) -> str:
        """What the output of a network depends on beside the tokens that it is given."""
        return self.pooling

    def encode(self, texts: Sequence[tuple[str, ...]]) -> tuple[list[np.ndarray], int]:
        """(T, 2) tokens and segments of every text or pair, and how many of them were cut.

        Raises UserError where nothing of a text would be left.
        """
        whole = [list(part) for part in zip(*texts, strict=True)]
        found = self.tokenizer(*whole, truncation=False, add_special_tokens=True, return_token_type_ids=True)
        ids, kinds = found["input_ids"], found["token_type_ids"]
        long = [i for i, tokens in enumerate(ids) if len(tokens) > self.length]
        for i in long:
            cut = self.tokenizer(
                *texts[i], truncation=True, max_length=self.length, add_special_tokens=True, return_token_type_ids=True
            )
            ids[i], kinds[i] = cut["input_ids"], cut["token_type_ids"]
            if len(ids[i]) > self.length:
                raise UserError(f"backbone.length={self.length} leaves no room for words: take more")
        rows = [np.array([a or [0], b or [0]], np.int32).T for a, b in zip(ids, kinds, strict=True)]
        return rows, len(long)

    def tokens(self, texts: Sequence[str | tuple[str, str]]) -> dict[str, Tensor]:
        """What a trained network is given of texts or pairs: (N, T) by name."""
        rows, _ = self.encode([(t,) if isinstance(t, str) else tuple(t) for t in texts])
        return self.collate(rows)

    @staticmethod
    def collate(rows: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Rows (T, 2) of tokens and segments as (N, T) by name, zeros to the longest, with 1 where there is a token."""
        import torch

        longest = max(len(row) for row in rows)
        padded = torch.zeros(len(rows), longest, 3, dtype=torch.long)
        for place, row in zip(padded, rows, strict=True):
            place[: len(row), :2] = torch.from_numpy(row)
            place[: len(row), 2] = 1
        return dict(zip(TOKENS, padded.unbind(-1), strict=True))

    def blank(self, like: Tensor, number: int = 1) -> dict[str, Tensor]:
        """So many texts of up to 32 zeros, (N, T) by name, on the device of `like`."""
        import torch

        ids = torch.zeros(number, min(32, self.length), dtype=torch.long, device=like.device)
        return dict(zip(TOKENS, (ids, ids.clone(), torch.ones_like(ids)), strict=True))

    def normalise(self, tokens: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Tokens (N, T) by name, as they are."""
        return tokens

    def views(self, tta: str) -> tuple[Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]], ...]:
        """A text (N, T) by name has one form. Raises UserError where others are asked for."""
        if tta:
            raise UserError(f"tta={tta} is for images: leave it out")
        return (self.normalise,)

    def made_up(self, number: int) -> dict[str, Tensor]:
        """So many texts of random tokens, (N, T) by name, the same every time."""
        import torch

        drawn = torch.Generator().manual_seed(0)
        shape = (number, min(32, self.length))
        ids = torch.randint(0, len(self.tokenizer), shape, generator=drawn)
        return dict(zip(TOKENS, (ids, torch.zeros_like(ids), torch.ones_like(ids)), strict=True))

    def thumbnails(self, tokens: Mapping[str, Tensor], side: int) -> Tensor | None:
        """None: texts (N, T) by name are no pictures."""
        return None

    def raw(self, tokens: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What an exported network is given of tokens (N, T) by name: each of them, in the order of TOKENS."""
        return tuple(tokens[name] for name in TOKENS)

    def write_beside(self, folder: Path) -> None:
        """What a program needs beside an exported network: tokenizer.json."""
        self.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))

    def of_raw(self, *tokens: Tensor) -> Mapping[str, Tensor]:
        """The tokens (N, T) by name again."""
        return dict(zip(TOKENS, tokens, strict=True))

    def normaliser(self) -> Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]:
        """`normalise` itself."""
        return self.normalise
