"""From the hidden states of tokens to one vector for each text."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from tl_lightning.backbones.taps import rms_normalise

POOLINGS = ("mean", "normalised", "cls", "max", "last")
_MODULES = "modules.json"  # of sentence-transformers: what follows the network
_NORMALIZE = "sentence_transformers.models.Normalize"


def pool(x: Tensor, how: str) -> Tensor:
    """(N, T, D + 1), the mask last, to one vector (N, D) for each text."""
    hidden, real = x[..., :-1], x[..., -1:]
    number = real.float().sum(1)  # bfloat16 counts to 256 only
    if how in ("mean", "normalised"):
        mean = hidden.sum(1) / number.clamp(min=1).to(hidden.dtype)
        return rms_normalise(mean) if how == "normalised" else mean
    if how == "max":
        return hidden.masked_fill(real == 0, torch.finfo(hidden.dtype).min).amax(1)
    at = number.long().clamp(min=1) - 1 if how == "last" else torch.zeros_like(real[:, 0], dtype=torch.long)
    return hidden.gather(1, at.unsqueeze(-1).expand(-1, 1, hidden.shape[-1])).squeeze(1)


def own_pooling(folder: str, here: bool, causal: bool) -> str:
    """How the texts of a model in a folder, or on the hub, were pooled when it was trained.

    Of `causal` models only the last token has seen all others; sentence-transformers writes beside a model what follows
    the network. `here`: nothing is downloaded.
    """
    from transformers.utils import cached_file

    if causal:
        return "last"
    file = cached_file(folder, _MODULES, local_files_only=here, _raise_exceptions_for_missing_entries=False)
    steps = json.loads(Path(file).read_text(encoding="utf-8")) if file else []
    kinds = [str(step.get("type", "")) for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return "normalised" if any(kind.endswith("Normalize") for kind in kinds) else "mean"


def note_pooling(folder: Path, pooled: str) -> None:
    """Write beside a model what `own_pooling` reads."""
    if pooled == "normalised":
        (folder / _MODULES).write_text(json.dumps([{"type": _NORMALIZE}]), encoding="utf-8")
