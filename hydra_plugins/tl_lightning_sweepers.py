"""Where Hydra looks for sweepers: what they do stands in tl_lightning/cli/."""

from tl_lightning.cli import grid, halving, quick, trial_sweep


class GridSweeper(grid.Grid):
    """Every combination of the words that list several values."""


class OptunaSweeper(trial_sweep.OptunaSearch):
    """A search by Optuna."""


class HalvingSweeper(halving.Halving):
    """Successive halving."""


class QuickSweeper(quick.Quick):
    """Backbones by an exact head, then the best of them trained."""
