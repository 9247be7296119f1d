"""Pretraining without photographs: images drawn by formula, and a network that learns to tell them apart."""
