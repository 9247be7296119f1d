"""A run is a folder: what is written into it, and all that is read back."""
