"""A network small enough to be trained in a test, as words on the command line and from Python."""

SMALL = ["backbone=mobilenet_v2", "backbone.weights=null", "backbone.image_size=32"]

WORDS = {
    "backbone": "mobilenet_v2", "backbone.weights": None, "backbone.image_size": 32, "data.batch_size": 4,
    "data.workers": 0, "trainer": {"accelerator": "cpu", "max_epochs": 1}, "strategy": "feature_extraction",
}  # fmt: skip
PROBE = {**WORDS, "backbone": "mobilenet_v2_formula", "backbone.weights": "formula", "strategy": "linear_probe"}
