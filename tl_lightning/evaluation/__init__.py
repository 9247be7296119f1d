"""How good answers are: scores with intervals, calibration, thresholds, and which of two models is better."""
