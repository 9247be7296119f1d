"""Somebody's folder of images, as batches."""
