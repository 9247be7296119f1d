"""Inputs that are hostile or odd, each with what shall come of it."""
