"""The exceptions that end a program with one line and an exit code of their own."""

import difflib
import signal
from collections.abc import Iterable
from typing import ClassVar


class UserError(ValueError):
    """Bad input: a one-line message that names the value and the remedy. The command line prints just that line."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        # a loader's process hands over what was raised there wrapped in its traceback
        super().__init__(message.rpartition("UserError: ")[2].strip() if message.startswith("Caught ") else message)


class DivergedError(UserError):
    """A training whose numbers are no longer finite."""

    exit_code: ClassVar[int] = 3


class Stopped(KeyboardInterrupt):
    """Stopped from outside by a signal; an interrupt, so that it ends a sweep, too."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What shells give for a signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for a terminal that was closed."""
        return 128 + self.number


def nearest(word: str, known: Iterable[str]) -> str:
    """A readable list of the known words, the nearest first; for the end of an error message."""
    words = list(known)
    close = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(words)}"
