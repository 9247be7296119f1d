"""Log lines that get along with a progress bar and with any name."""

import copy
import logging
import sys
from typing import TextIO

from tl_lightning.printable import printable


class StdoutHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever sys.stdout is at the moment.

    A live progress bar puts itself there to print above the bar, and a notebook gives every cell its own.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The current standard output."""
        return sys.stdout


class Printable(logging.Formatter):
    """Lines in which no file's name can move the cursor, and that every terminal and file takes."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; of this package one, whatever a name in it holds."""
        shown = copy.copy(record)
        shown.msg, shown.args = printable(record.getMessage(), lines=not record.name.startswith("tl_lightning")), ()
        return super().format(shown)
