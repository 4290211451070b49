"""Where a sweep stands, as text: live on a terminal, and as a table at the end."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from cwbench.internal.text import percent, plain
from cwbench.sweep.cost import Line
from cwbench.sweep.engine import Item, Watch
from cwbench.sweep.outcome import Done, Failed
from cwbench.sweep.schedule import Schedule

HOUR = 3600
SHOWN = 12
"""Finished cells that the live table shows; the running ones are all there."""


@contextmanager
def live() -> Iterator[Watch]:
    """Show cells while they run, on standard error if that is a terminal; yields what to tell."""
    if not sys.stderr.isatty():
        yield lambda items, schedule: None
        return
    began = time.monotonic()
    with Live(console=Console(stderr=True), transient=True, refresh_per_second=4) as shown:
        yield lambda items, schedule: shown.update(view(items, schedule, time.monotonic() - began))


def view(items: Sequence[Item], schedule: Schedule, seconds: float) -> Group:
    """Return the table of a moment: the cells that were finished last, and what runs."""
    done = [item for item in items if isinstance(item.outcome, Done)]
    failed = [item for item in items if isinstance(item.outcome, Failed)]
    table = Table(box=None, pad_edge=False)
    for heading in ("cell", "state", "% correct", "worst class"):
        table.add_column(heading, justify="left" if heading in ("cell", "state") else "right")
    for item in [*done, *failed][-SHOWN:]:
        table.add_row(*(plain(cell, "terminal") for cell in row(item)))
    for task in schedule.running.values():
        table.add_row(plain(task.name, "terminal"), "running", "", "")
    waiting = len(items) - len(done) - len(failed)
    head = f"{len(done)} of {len(items)} cells done, {len(failed)} failed, {waiting} to come; {seconds:.0f} s"
    return Group(Text(head), table)


def cost_table(lines: Sequence[Line], device: str, workers: int) -> str:
    """Return what a sweep will cost, with its sum."""
    rows = [
        [
            plain(line.name, "terminal"),
            line.count,
            *(f"{part / 1e6:,.3g}" for part in (line.passes.forward, line.passes.inputs, line.passes.weights)),
            f"{line.seconds / HOUR:,.3g}",
        ]
        for line in lines
    ]
    hours = sum(line.seconds for line in lines) / HOUR
    kind = "GPU" if device == "cuda" else device.upper()
    headers = ["what", "how often", "forward, M", "for images, M", "for weights, M", f"{kind}-hours"]
    table = tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=["left"] + 5 * ["right"])
    together = f"{hours:,.3g} {kind}-hours at most, as measured on this machine"
    return f"{table}\n\n{together}; {hours / workers:,.3g} hours with {workers} at a time"


def row(item: Item) -> tuple[str, str, str, str]:
    """Return a cell's name, state, accuracy and worst class as text."""
    outcome = item.outcome
    if isinstance(outcome, Done):
        state = f"done in {outcome.seconds:.1f} s" if outcome.seconds else "finished before"
        return item.name, state, percent(outcome.accuracy), percent(outcome.worst)
    return item.name, "failed" if outcome else "to come", "", ""


def summary(items: Sequence[Item]) -> str:
    """Return all cells as a table, with the reasons of those that failed behind it."""
    cells = [[plain(cell, "terminal") for cell in row(item)] for item in items]
    headers = ["cell", "state", "% correct", "worst class"]
    parts = [
        tabulate(cells, headers, tablefmt="simple", disable_numparse=True, colalign=["left", "left"] + 2 * ["right"])
    ]
    failed = [(item.name, item.outcome) for item in items if isinstance(item.outcome, Failed)]
    parts += [plain(f"failed: {name}: {outcome.reason}", "terminal") for name, outcome in failed]
    done = sum(isinstance(item.outcome, Done) for item in items)
    parts.append(f"{done} of {len(items)} cells are finished, {len(failed)} failed")
    return "\n".join([parts[0], "", *parts[1:]])
