"""What people look at."""

from tl_lightning import lazy

__getattr__ = lazy.exports(
    __name__,
    {
        "ContinuedCSVLogger": "csv_logger",
        "EpochLines": "epoch_lines",
        "RunProgress": "progress",
        **dict.fromkeys(("MLFlow", "TensorBoard", "Wandb"), "trackers"),
    },
)
