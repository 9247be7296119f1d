"""Short trials of candidate strategies, on the training images alone."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from tl_lightning.data import splits
from tl_lightning.data.labelled import Collection
from tl_lightning.strategies.plan import Strategy

log = logging.getLogger(__name__)

_HELD_OUT = 0.25  # of the training images of each class


def attempt(cfg: DictConfig, folder: Collection, strategy: Strategy, seconds: float) -> float:
    """Accuracy on held-out training images after so many seconds of training at most, by one strategy.

    The images that are held out are the same for every strategy; those for validation and test are not looked at.
    """
    from tl_lightning.runs import record  # both of which build, which may try
    from tl_lightning.runs.train import train

    known = [i for i in folder.items if i.split == "train" and not i.skipped]
    with tempfile.TemporaryDirectory() as scratch:
        splits.write(splits.stratified(known, _HELD_OUT, "val", cfg.seed), Path(scratch, "splits.csv"))
        words = {"strategy": record.described(strategy), "callbacks": {}, "logger": {}, "run_dir": scratch}
        trial = OmegaConf.create({**OmegaConf.to_container(cfg, resolve=False), **words})  # type: ignore[dict-item]
        with open_dict(trial):
            trial.data.splits = f"{scratch}/splits.csv"
            trial.data["file" if "file" in trial.data else "root"] = str(folder.root)
            trial.data.batch_size = min(cfg.data.batch_size, max(1, len(known) // 2))
            trial.trainer.max_time = {"seconds": seconds}
        logging.disable(logging.INFO)  # it is no run of its own
        try:
            accuracy = float(train(trial)["val/accuracy"])
        finally:
            logging.disable(logging.NOTSET)
    log.info(f"trial     {accuracy:.4f} after at most {seconds:g} s: {strategy}")
    return accuracy
