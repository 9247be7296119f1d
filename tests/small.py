"""A network small enough to be trained in a test, as words on the command line."""

SMALL = ["backbone=mobilenet_v2", "backbone.weights=null", "backbone.image_size=32"]
