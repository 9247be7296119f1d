"""What a user can put right as one line, and an exit code."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tl_lightning.config.explain import CAUGHT, expected, explain
from tl_lightning.errors import Stopped, UserError
from tl_lightning.printable import printable


@contextmanager
def one_line_errors(debug: bool = False, folder: Path | None = None) -> Iterator[None]:
    """What a user can put right as one line, and exit code 1; the `folder` of a run that was refused is removed.

    Also inside of the job, where Hydra would print the overrides first; SystemExit passes it by.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        print(printable(str(stop) or "stopped by hand"), file=sys.stderr)
        sys.exit(stop.exit_code if isinstance(stop, Stopped) else 128 + signal.SIGINT)
    except BrokenPipeError:  # whoever reads has seen enough: tl ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except CAUGHT as error:
        if debug or not expected(error):
            raise
        print(f"error: {printable(explain(error))}", file=sys.stderr)
        if folder is not None and {p.name for p in folder.iterdir()} <= {".hydra", "train.log", "pretrain.log"}:
            shutil.rmtree(folder)  # nothing of its own is there
        sys.exit(error.exit_code if isinstance(error, UserError) else 1)
