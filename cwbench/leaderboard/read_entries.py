"""All entries of a board, read by every core."""

import gc
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from cwbench.internal.errors import CwbenchError, ReportError
from cwbench.leaderboard.attack_suites import Suites, read_suites
from cwbench.leaderboard.entry import Entry, read_entry
from cwbench.leaderboard.entry_cache import Memo, sha256_of
from cwbench.leaderboard.layout import Place

FEW, MANY = 200, 4_000
"""Below this many entries a second process costs more than it saves; from this many on they are dealt out finer."""


@dataclass(frozen=True)
class Reading:
    """What lies on a board."""

    entries: tuple[Entry, ...]
    problems: tuple[CwbenchError, ...]
    """One for each file that may not stand there."""


def read_all(place: Place) -> Reading:
    """Read and check every entry of a board.

    Raises:
        ReportError: the board's table of suites is unreadable; what is wrong with entries is returned, not raised.
    """
    suites, files = read_suites(place.suites), list(place.files())
    if len(files) < FEW:
        return _reading([_read(files, place, suites, None)])
    memo, buckets = Memo(place, suites), _buckets(files)
    workers = min(len(buckets), os.cpu_count() or 1)
    try:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            found = list(pool.map(_read, buckets, repeat(place), repeat(suites), repeat(memo)))
    except BrokenProcessPool:
        raise ReportError("a process that read entries was killed", "is there enough memory?") from None
    memo.forget_others({part.key for part in found})
    return _reading(found)


@dataclass(frozen=True)
class _Part:
    found: list[Entry | CwbenchError]
    key: str = ""


def _reading(parts: Sequence[_Part]) -> Reading:
    read = [item for part in parts for item in part.found]
    return Reading(
        tuple(item for item in read if isinstance(item, Entry)),
        tuple(item for item in read if isinstance(item, CwbenchError)),
    )


def _buckets(files: Sequence[Path]) -> list[list[Path]]:
    """Deal out files by folder and first digits of their names: a new entry leaves most buckets as they were."""
    digits = 1 if len(files) < MANY else 2
    buckets: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in files:
        buckets[path.parent, path.name[:digits]].append(path)
    return list(buckets.values())


def _read(files: Sequence[Path], place: Place, suites: Suites, memo: Memo | None) -> _Part:
    """Read some entries, or take them from the memo if their files are those of before."""
    key = memo.key([(str(path), sha256_of(path)) for path in files]) if memo else ""
    known = memo.find(key) if memo else None
    if known is not None:
        return _Part(list(known), key)
    found: list[Entry | CwbenchError] = []
    with without_collector():
        for path in files:
            try:
                found.append(read_entry(path, place, suites))
            except CwbenchError as error:
                found.append(error)
    sound = [item for item in found if isinstance(item, Entry)]
    if memo and len(sound) == len(found):
        memo.keep(key, sound)
    return _Part(found, key)


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
