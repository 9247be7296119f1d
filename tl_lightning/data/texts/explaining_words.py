"""Which words an answer comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from tl_lightning.backbones.heat_maps import token_relevance
from tl_lightning.inputs import TextInput

_MOST = 8  # words


def explain(
    network: nn.Sequential,
    input: TextInput,
    tokens: Mapping[str, Tensor],
    answers: Tensor,
    names: Sequence[str],
    folder: Path,
) -> list[str]:
    """For each text of tokens (N, T) by name and answers (N,): the words that weigh most, and how much.

    Positive weights speak for the answer; all of a text together count 1 in size.
    """
    found = []
    for ids, weights in zip(tokens["input_ids"], token_relevance(network, tokens, answers), strict=True):
        words: list[tuple[str, float]] = []
        special = set(input.tokenizer.all_special_ids)
        pieces = input.tokenizer.convert_ids_to_tokens(ids.tolist())
        for number, piece, weight in zip(ids.tolist(), pieces, weights.tolist(), strict=True):
            if number in special:
                continue
            if piece.startswith("##") and words:  # goes on with the word before
                words[-1] = (words[-1][0] + piece[2:], words[-1][1] + weight)
            else:
                words.append((piece.lstrip("\u0120\u2581"), weight))
        total = sum(abs(weight) for _, weight in words) or 1.0
        most = sorted(words, key=lambda word: -abs(word[1]))[:_MOST]
        found.append(" ".join(f"{word}:{weight / total:+.2f}" for word, weight in most))
    return found
