"""Log lines that get along with a progress bar."""

import logging
import sys
from typing import TextIO


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
