"""Progress bars: on standard error, only where that is a terminal, and of several processes only the leader's.

``CWBENCH_PROGRESS=0`` silences them: a sweep shows a table of its own instead.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SWITCH = "CWBENCH_PROGRESS"


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; yields ``advance(n)``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    silent = not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0" or os.environ.get(SWITCH) == "0"
    with Progress(*columns, console=console, transient=True, disable=silent) as shown:
        task = shown.add_task(description, total=total)
        yield lambda finished: shown.advance(task, finished)


class Ticks:
    """Advances a bar by what an attack says, and no further than its examples."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance
        self.told = self.now = 0

    def restart(self) -> None:
        """Begin again, because memory ran out: what was told stays told."""
        self.now = 0

    def __call__(self, finished: int) -> None:
        self.now += finished
        if self.now > self.told:
            self.advance(self.now - self.told)
            self.told = self.now

    def round_up(self, total: int) -> None:
        """Tell of the examples that the attack did not mention."""
        self.advance(total - self.told)
