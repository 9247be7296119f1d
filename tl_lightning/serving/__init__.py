"""A trained model behind HTTP: a page to try it on, and JSON for programs."""
