"""What each file of a run's folder is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFiles:
    """The places of a run's files, whether they are there or not."""

    path: Path

    @property
    def config_file(self) -> Path:
        """Every value of the configuration."""
        return self.path / "config.yaml"

    @property
    def model_file(self) -> Path:
        """What is needed, beside the weights, to use the model."""
        return self.path / "model.json"

    @property
    def weights_file(self) -> Path:
        """The best weights."""
        return self.path / "model.safetensors"

    @property
    def metrics_file(self) -> Path:
        """Scores of the best weights."""
        return self.path / "metrics.json"

    @property
    def history_file(self) -> Path:
        """Every epoch and step."""
        return self.path / "metrics.csv"

    @property
    def splits_file(self) -> Path:
        """Which sample was in which split."""
        return self.path / "splits.csv"

    @property
    def best_checkpoint(self) -> Path:
        """Lightning's checkpoint of the best epoch."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last_checkpoint(self) -> Path:
        """Lightning's checkpoint of the last epoch, to resume from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def previous_checkpoint(self) -> Path:
        """The last but one, for where the last cannot be read."""
        return self.path / "checkpoints" / "previous.ckpt"

    @property
    def checkpoints(self) -> tuple[Path, Path]:
        """What a run may be resumed from, the newest first."""
        return self.last_checkpoint, self.previous_checkpoint

    @property
    def held(self) -> tuple[Path, ...]:
        """All checkpoints."""
        return self.best_checkpoint, *self.checkpoints

    @property
    def trackers(self) -> Path:
        """What wandb keeps of the run."""
        return self.path / "wandb"

    @property
    def library(self) -> Path:
        """What a library needs to build its network again: configuration, tokenizer."""
        return self.path / "backbone"

    @property
    def overview_file(self) -> Path:
        """What the task's picture is drawn of, by split: of classes, counts."""
        return self.path / "overview.json"

    @property
    def calibration_file(self) -> Path:
        """The temperature of the outputs and the thresholds of the answers, once they have been chosen."""
        return self.path / "calibration.json"

    @property
    def predictions(self) -> Path:
        """What the model said of new samples, last."""
        return self.path / "predictions.csv"

    @property
    def report(self) -> Path:
        """All that there is to see, as one page."""
        return self.path / "report.html"

    @property
    def log_file(self) -> Path:
        """What was said in training."""
        return self.path / "train.log"

    @property
    def words_file(self) -> Path:
        """The words of the command line."""
        return self.path / ".hydra" / "overrides.yaml"

    @property
    def card(self) -> Path:
        """What others should know of the model."""
        return self.path / "MODEL_CARD.md"

    @property
    def export(self) -> Path:
        """The network for other programs."""
        return self.path / "export"

    @property
    def features_file(self) -> Path:
        """Features of samples, to tell what the model does not know, and to add classes."""
        return self.path / "features.safetensors"

    @property
    def evaluation(self) -> Path:
        """What evaluations have found, by split."""
        return self.path / "evaluation"

    @property
    def advice_file(self) -> Path:
        """What an advised strategy rests on."""
        return self.path / "advice.json"

    @property
    def advice_picture(self) -> Path:
        """The same to look at."""
        return self.path / "advice.png"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's files."""
        return self.path / "tensorboard"
