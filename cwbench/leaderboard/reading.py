"""All entries of a board, read by every core."""

import gc
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from cwbench.errors import CwbenchError
from cwbench.leaderboard.entry import Entry, read_entry
from cwbench.leaderboard.place import Place
from cwbench.leaderboard.suites import Suites, read_suites

FEW = 200
"""Below this many entries a second process costs more than it saves."""
CHUNK = 100


@dataclass(frozen=True)
class Reading:
    """What lies on a board."""

    entries: tuple[Entry, ...]
    problems: tuple[CwbenchError, ...]
    """One for each file that may not stand there."""


def read_all(place: Place) -> Reading:
    """Read and check every entry of a board.

    Raises:
        CwbenchError: the board's table of suites is unreadable; what is wrong with entries is returned, not raised.
    """
    suites, files = read_suites(place.suites), list(place.files())
    parts = [(files[first : first + CHUNK], place, suites) for first in range(0, len(files), CHUNK)]
    workers = min(len(parts), os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count() or 1)
    if len(files) < FEW or workers < 2:
        found = [_read(*part) for part in parts]
    else:
        try:
            with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
                found = list(pool.map(_read, *zip(*parts, strict=True)))
        except BrokenProcessPool:
            raise CwbenchError("a process that read entries was killed", "is there enough memory?") from None
    read = [item for part in found for item in part]
    return Reading(
        tuple(item for item in read if isinstance(item, Entry)),
        tuple(item for item in read if isinstance(item, CwbenchError)),
    )


def _read(files: Sequence[Path], place: Place, suites: Suites) -> list[Entry | CwbenchError]:
    found: list[Entry | CwbenchError] = []
    with without_collector():
        for path in files:
            try:
                found.append(read_entry(path, place, suites))
            except CwbenchError as error:
                found.append(error)
    return found


@contextmanager
def without_collector() -> Iterator[None]:
    """Work without Python's collector of cycles: reports and boards are trees, and it takes a fifth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
