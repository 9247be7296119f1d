"""What a run knows, as a small index of its training samples' features, to tell samples that it does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tl_lightning.errors import UserError
from tl_lightning.evaluation.neighbours import K, Neighbours
from tl_lightning.files import atomically
from tl_lightning.jobs.judge import Judge

_MOST = 5000  # training samples


def neighbours_of(path: Path, judge: Judge) -> Neighbours:
    """The index in a file, made of the training samples if there is none yet.

    Raises UserError for too few of them, and for a file that is damaged.
    """
    if not path.is_file():
        _write(path, judge)
    try:
        with safe_open(path, "np") as file:
            rows, threshold = file.get_tensor("rows"), float(file.get_tensor("threshold")[0])
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it, and it is made again") from error
    return Neighbours(rows, threshold)


@torch.no_grad()
def _write(path: Path, judge: Judge) -> None:
    number = judge.data.samples.size("train")
    if number <= K:
        raise UserError(f"unknown=true needs more than {K} training samples: there are {number}")
    picked, normalise = np.random.default_rng(0).permutation(number)[:_MOST], judge.data.input.normalise
    batches = judge.raw_inputs("train", picked.tolist())
    found = [judge.model.backbone(normalise(inputs)).float().numpy() for inputs in batches]
    made = Neighbours.of(np.concatenate(found))
    tensors = {"rows": torch.from_numpy(made.rows), "threshold": torch.tensor([made.threshold], dtype=torch.float64)}
    atomically(path, lambda draft: save_file(tensors, draft))
