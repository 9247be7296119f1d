"""Texts: read from a table, turned into tokens."""
