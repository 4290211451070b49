"""Standard output belongs to results: what plugins and libraries print while a run is done goes to standard error."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress


@contextmanager
def kept_for_results() -> Iterator[None]:
    """Send what is written to standard output within the block, also by child processes, to standard error."""
    with redirect_stdout(sys.stderr):
        try:
            aside = os.dup(1)
        except OSError:  # it is closed: nothing can be written there anyway
            yield
            return
        try:
            with suppress(OSError):
                os.dup2(2, 1)
            yield
        finally:
            os.dup2(aside, 1)
            os.close(aside)
