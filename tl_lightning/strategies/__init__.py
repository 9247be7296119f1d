"""What learns: names and numbers."""

from tl_lightning.strategies.freezing import EarlyFeatures, FeatureExtraction, FinetuneAll, FinetuneTop, LinearProbe
from tl_lightning.strategies.phased import GradualUnfreeze, LpFt
from tl_lightning.strategies.plan import HEAD, Facts, Phase, Plan, Strategy

__all__ = [
    "HEAD",
    "EarlyFeatures",
    "Facts",
    "FeatureExtraction",
    "FinetuneAll",
    "FinetuneTop",
    "GradualUnfreeze",
    "LinearProbe",
    "LpFt",
    "Phase",
    "Plan",
    "Strategy",
]
