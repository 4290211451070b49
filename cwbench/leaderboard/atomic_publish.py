"""A board's rendering, put in place whole: whoever is killed leaves the old one, or the new one to be moved in."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cwbench.internal.errors import ReportError, reason_of
from cwbench.leaderboard.layout import RENDERED, Place

PATIENCE = 600.0
"""Seconds to wait for another build of the same board."""
NEXT = ".next"


@contextmanager
def building(place: Place) -> Iterator[None]:
    """Hold the board's lock, which the operating system takes back from a killed process, and finish what one began.

    Raises:
        ReportError: the folder is not writable, or another process has been building for ten minutes.
    """
    try:
        with FileLock(place.root / ".lock", timeout=PATIENCE):
            _finish(place)
            yield
    except Timeout:
        raise ReportError(f"another process is building {place.root}", "wait for it, or end it") from None
    except OSError as error:
        where = error.filename or place.root
        raise ReportError(f"cannot use {where}: {reason_of(error)}", "may it be read and written?") from None


def recover(place: Place) -> None:
    """Move in what a killed build had ready; nothing where there is nothing, or where it may not be written."""
    if (place.root / NEXT).is_dir() and os.access(place.root, os.W_OK):
        with building(place):
            pass


def put(place: Place, files: Mapping[str, bytes]) -> bool:
    """Replace some of a board's files, all of them or none; tell whether any changed. The lock must be held.

    All are written beside the board first. Giving their folder its name decides; from then on they are moved in, by
    this process or, should it be killed, by the next that builds or reads.
    """
    if all(_same(place.root / name, content) for name, content in files.items()):
        return False
    for left in place.root.glob(f"{NEXT}-*"):  # of a killed build: whoever holds the lock is alone
        shutil.rmtree(left)
    for name in files:  # before anything decides: what cannot be replaced would be in the way of every later command
        _require_replaceable(place.root / name)
    draft = place.root / f"{NEXT}-{secrets.token_hex(4)}"
    for name, content in files.items():
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        with (draft / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    draft.rename(place.root / NEXT)
    _finish(place)
    return True


def _require_replaceable(path: Path) -> None:
    """Check that a file can be written where one may be already.

    Raises:
        ReportError: a folder is in its place, or a file or a closed folder in that of its folder.
    """
    folder = path.parent
    blocked = path if path.is_dir() else next((part for part in (folder, *folder.parents) if part.exists()), folder)
    if path.is_dir() or not blocked.is_dir() or not os.access(blocked, os.W_OK):
        raise ReportError(f"{blocked} is in the way of {path.name}, or read-only", "move it aside, or make it writable")


def _finish(place: Place) -> None:
    ready = place.root / NEXT
    for name in RENDERED:  # and nothing else that somebody may have put there
        if (ready / name).is_file():
            (place.root / name).parent.mkdir(parents=True, exist_ok=True)
            (ready / name).replace(place.root / name)
    shutil.rmtree(ready, ignore_errors=True)


def _same(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
