"""What learns: names and numbers."""

from tl_lightning.strategies.advisor import Advice, Auto
from tl_lightning.strategies.freezing import (
    EarlyFeatures,
    FeatureExtraction,
    FinetuneAll,
    FinetuneTop,
    LinearProbe,
    Lora,
)
from tl_lightning.strategies.phased import GradualUnfreeze, LpFt
from tl_lightning.strategies.plan import HEAD, Facts, Phase, Plan, Strategy

__all__ = [
    "HEAD",
    "Advice",
    "Auto",
    "EarlyFeatures",
    "Facts",
    "FeatureExtraction",
    "FinetuneAll",
    "FinetuneTop",
    "GradualUnfreeze",
    "LinearProbe",
    "Lora",
    "LpFt",
    "Phase",
    "Plan",
    "Strategy",
]
