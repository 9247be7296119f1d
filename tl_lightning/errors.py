"""The one exception for what a user can put right."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: a one-line message that names the value and the remedy. The command line prints just that line."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A readable list of the known words, the nearest first; for the end of an error message."""
    words = list(known)
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(words)}"
